"""Orders to all nodes: each carries one out on what it has, and the answers are gathered for a bounded time.

Which nodes there are is read anew each time, since one that came a moment ago has clients, too. Whoever does not answer
in time is named to the asker, rather than waited for: it may be frozen, cut off, or of a version that does not know
the order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from hybrid.engine.nodes import Nodes
from hybrid.engine.tasks import Tasks
from hybrid.errors import TABLE, BrokerError, HybridError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.protocol.control import ControlMessage, Order, Outcome
from hybrid.protocol.orders import AnyOrder

_log = logging.getLogger(__name__)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_Answer = TypeVar("_Answer")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AnyOrder).decode


class Gathered(Generic[_Answer]):
    """The answers that came, ours first, and the ids of the nodes whose did not."""

    __slots__ = ("answers", "unanswered")

    def __init__(self, answers: list[_Answer], unanswered: list[str]) -> None:
        self.answers = answers
        self.unanswered = unanswered


class Orders:
    """See the module's text. One per process."""

    def __init__(
        self, nodes: Nodes, limits: Limits, tasks: Tasks, tell: Callable[[str, ControlMessage], Awaitable[bool]]
    ) -> None:
        """`tell` says something to a node; False: it is gone. Raises BrokerError."""
        self._nodes = nodes
        self._limits = limits
        self._tasks = tasks
        self._tell = tell
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._asked = 0
        self._carrying = 0
        self.carry_out: Callable[[AnyOrder], Awaitable[Any]]
        """Who carries an order out on this node; set once, before anything is heard."""

    async def give_all(self, order: AnyOrder, kind: type[_Answer]) -> Gathered[_Answer]:
        """Have it carried out on every node; `kind` is what they answer with.

        Raises BrokerError where the nodes cannot be known, and nothing was done; what this node refuses it with. What
        another refuses it with counts as no answer. Cancelling it leaves the outcome unknown.
        """
        others = await self._nodes.known_now()
        ours, *theirs = await asyncio.gather(
            self.carry_out(order),
            *(self._ask(other.id, order, kind) for other in others),
            return_exceptions=True,
        )
        if isinstance(ours, BaseException):
            raise ours
        answers, unanswered = [ours], []
        for other, answer in zip(others, theirs, strict=True):
            if isinstance(answer, HybridError):
                unanswered.append(other.id)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is not None:
                answers.append(answer)
        return Gathered(answers, unanswered)

    async def give(self, node: str, order: AnyOrder, kind: type[_Answer]) -> _Answer:
        """Have it carried out on one node.

        Raises ProtocolError `not_found` for one that is gone, or never was; `outcome_unknown` for one that does not
        answer in time; BrokerError; what the node refuses it with.
        """
        if node == self._nodes.id:
            ours: _Answer = await self.carry_out(order)
            return ours
        others = await self._nodes.known_now()
        answer = await self._ask(node, order, kind) if any(other.id == node for other in others) else None
        if answer is None:
            raise ProtocolError("not_found", "There is no such node.")
        return answer

    async def _ask(self, node: str, order: AnyOrder, kind: type[_Answer]) -> _Answer | None:
        """None: nobody listens there, it is gone, and its clients are somebody else's."""
        if len(self._waiting) >= self._limits.carried_max:
            raise LimitError("carried_max", retry_after_s=1.0)
        self._asked += 1
        number = self._asked
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            async with asyncio.timeout(self._limits.managed_timeout_s):
                if not await self._tell(node, Order(number, _encode(order))):
                    return None
                outcome = await answered
        except TimeoutError:
            raise ProtocolError("outcome_unknown", "The node did not answer in time.") from None
        finally:
            del self._waiting[number]
        if outcome.error:
            raise HybridError(outcome.error if outcome.error in TABLE else "internal", outcome.detail)
        try:
            return msgspec.msgpack.decode(outcome.result, type=kind)
        except _UNREADABLE as error:
            _log.error("what node %s answered cannot be read: %s", node, error)
            raise HybridError("internal") from None

    def heard(self, sender: str, message: Order | Outcome) -> None:
        """Another node has ordered something, or answered."""
        if isinstance(message, Order):
            self._tasks.spawn(self._obey(sender, message))
            return
        waiting = self._waiting.get(message.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def _obey(self, sender: str, message: Order) -> None:
        try:
            order = _decode(message.order)
        except _UNREADABLE:
            _log.warning("node %s asks for something that this version does not know", sender)
            return
        if self._carrying >= self._limits.carried_max:
            outcome = _refusal(message.id, LimitError("carried_max"))
        else:
            self._carrying += 1
            try:
                outcome = Outcome(message.id, _encode(await self.carry_out(order)))
            except HybridError as error:
                outcome = _refusal(message.id, error)
            except Exception:
                _log.exception("what node %s asks for failed", sender)
                outcome = _refusal(message.id, HybridError("internal"))
            finally:
                self._carrying -= 1
        try:
            await self._tell(sender, outcome)
        except BrokerError as error:
            _log.warning("what node %s asked for was done, which it cannot be told: %s", sender, error)


def _refusal(number: int, error: HybridError) -> Outcome:
    return Outcome(number, error=error.row.name, detail=error.detail)


def pages(parts: Sequence[tuple[list[str], bool]], limit: int) -> tuple[list[str], bool]:
    """The first `limit` of the names that several nodes listed, each in order, and whether there are more.

    Each is a list and whether its node has more behind it: then what others list beyond its end may not be counted
    whole yet, and belongs to the next page.
    """
    ends = [names[-1] for names, has_more in parts if has_more and names]
    until = min(ends, default=None)
    merged = sorted({name for names, _ in parts for name in names if until is None or name <= until})
    return merged[:limit], until is not None or len(merged) > limit
