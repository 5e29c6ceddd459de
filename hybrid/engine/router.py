"""Carries a session's commands to the node that has its stream.

A session id names the node that made it. Only what changes an open stream is carried (subscribe, unsubscribe, refresh,
confirm, heartbeat); all else is answered where it lands. The owner looks again at who asks, and carries the command out
as if it had been posted there. A node that is gone is known at once, since nobody listens for it, and its sessions are
then unknown: their clients attach anew.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from hybrid.auth.introspection import UNSEEN_MAX_S
from hybrid.auth.revocation import Revocations
from hybrid.broker.base import NodeStore
from hybrid.engine import reply as replies
from hybrid.engine.session_commands import carry_out
from hybrid.engine.tasks import Tasks
from hybrid.engine.ticketed import TicketStreams
from hybrid.errors import AuthError, BrokerError, HybridError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from hybrid.protocol.codec import JSON
from hybrid.protocol.commands import AnyCommand, Refresh
from hybrid.protocol.control import Answer, Ask, ControlCodec, ControlMessage, Moved, Opened, Order, Outcome
from hybrid.protocol.pushes import Reply

if TYPE_CHECKING:
    from hybrid.clock import Clock
    from hybrid.engine.orders import Orders
    from hybrid.engine.registry import Registry

_log = logging.getLogger(__name__)

NODE_ID_BYTES: Final = 9
"""Of chance in a node's id, drawn at every start: it also names this one life of the node."""
_NODE_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{{NODE_ID_BYTES * 4 // 3}}}\Z")
_SESSION_ID_BYTES: Final = 16
_decode_reply: Final = msgspec.json.Decoder(Reply).decode


class Router:
    """See the module's text. One per process."""

    def __init__(
        self,
        node: str,
        store: NodeStore,
        key: bytes,
        registry: Registry,
        limits: Limits,
        clock: Clock,
        tasks: Tasks,
        revocations: Revocations,
    ) -> None:
        self.node = node
        self._store = store
        self._codec = ControlCodec(key, node)
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._tasks = tasks
        self._revocations = revocations
        self.ticket_streams = TicketStreams(node, tasks, self.opened)
        self.orders: Orders | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._asked = 0
        self._carrying = 0

    def new_session_id(self) -> str:
        """An id that names this node."""
        return f"{self.node}.{secrets.token_urlsafe(_SESSION_ID_BYTES)}"

    async def ask(
        self, principal: Principal, session: str, command: AnyCommand, raw: bytes, last_seq: int = 0
    ) -> Reply | None:
        """Have a command carried out where its session's stream is. `raw` is its JSON. Raises HybridError."""
        owner = self._owner(session)
        if owner is None:
            runner = self._registry.find(session, principal)
            if runner is None:
                raise ProtocolError("session_unknown")
            if last_seq:
                runner.heartbeat(last_seq)
            return await carry_out(runner, command, principal)
        if len(self._waiting) >= self._limits.carried_max:
            raise LimitError("carried_max", retry_after_s=1.0)
        self._asked += 1
        number = self._asked
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            if isinstance(command, Refresh):
                # Its token was checked at our door, and who it speaks for is carried: a token never goes through Redis.
                raw = msgspec.json.encode(msgspec.structs.replace(command, token=""))
            if not await self.tell(owner, Ask(number, session, principal, raw, last_seq)):
                raise ProtocolError("session_unknown")
            async with asyncio.timeout(self._limits.carried_timeout_s):
                reply = await answered
        except TimeoutError:
            raise ProtocolError("outcome_unknown", "Send the same command, with the same number, again.") from None
        finally:
            del self._waiting[number]
        return _decode_reply(reply) if reply else None

    async def moved(self, principal: Principal, session: str, attempt: int) -> None:
        """Tell the node of a session that its client goes on here: what it had there can end. At most once."""
        owner = self._owner(session)
        if owner is None:
            return
        try:
            await self.tell(owner, Moved(session, principal, attempt))
        except BrokerError as error:
            _log.warning("a node could not be told that a session moved; it will notice by silence: %s", error)

    def heard(self, sealed: bytes) -> None:
        """A message for this node came."""
        opened = self._codec.open(sealed)
        if opened is None:
            _log.warning("a control message that is not sealed for this node, or not for the first time, is ignored")
            return
        sender, message = opened
        match message:
            case Ask():
                self._tasks.spawn(self._carry_out(sender, message))
            case Answer():
                waiting = self._waiting.get(message.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message.reply)
            case Order() | Outcome():
                if self.orders is not None:
                    self.orders.heard(sender, message)
            case Opened(ticket, number):
                self.ticket_streams.replaced(ticket, number)
            case Moved() if not self._revocations.is_revoked(message.principal):
                runner = self._registry.find(message.session, message.principal)
                current = runner.session.current if runner is not None else None
                if runner is not None and (current is None or current.attempt < message.attempt):
                    runner.end("replaced")
            case _:
                pass  # its session is ended for another reason

    async def opened(self, node: str, ticket: bytes, number: int) -> None:
        """Tell the node where the stream of a ticket was that it is open here now. At most once. Raises BrokerError."""
        if _NODE_ID.match(node):
            await self.tell(node, Opened(ticket, number))

    def is_ours(self, session: str) -> bool:
        """Whether an id is of this node, so that a stream may go on in its session here."""
        return self._owner(session) is None

    # -- inside

    def _owner(self, session: str) -> str | None:
        """The other node that an id names; None for ours, and for what no node has made."""
        node, dot, _ = session.partition(".")
        # A client may write anything here, and it becomes part of a name in the broker.
        return node if dot and node != self.node and _NODE_ID.match(node) else None

    def _bounded(self, principal: Principal) -> Principal:
        """Whoever was introspected elsewhere: the token was never shown here, so its issuer cannot be asked again."""
        if not principal.is_introspected:
            return principal
        end_s = min(principal.expires_at_s, self._clock.wall_s() + UNSEEN_MAX_S)
        return msgspec.structs.replace(principal, expires_at_s=end_s)

    async def tell(self, node: str, message: ControlMessage) -> bool:
        """Say something to another node; False: nobody listens there, it is gone. Raises BrokerError."""
        return await self._store.tell(node, self._codec.seal(node, message))

    async def _carry_out(self, sender: str, message: Ask) -> None:
        reply = await self._reply(message)
        try:
            await self.tell(sender, Answer(message.id, b"" if reply is None else msgspec.json.encode(reply)))
        except BrokerError as error:
            _log.warning("a carried command could not be answered: %s", error)

    async def _reply(self, message: Ask) -> Reply | None:
        command_id = JSON.command_id(message.command)
        if self._carrying >= self._limits.carried_max:
            return replies.refused(LimitError("carried_max", retry_after_s=1.0), command_id)
        self._carrying += 1
        try:
            if message.principal.expires_at_s + self._limits.expiry_grace_s <= self._clock.wall_s():
                raise AuthError("token_expired")
            self._revocations.check(message.principal)  # the sender may not have heard of it yet
            runner = self._registry.find(message.session, message.principal)
            if runner is None:
                raise ProtocolError("session_unknown")
            principal = self._bounded(message.principal)
            command = JSON.decode_command(message.command, self._limits.command_max_bytes)
            if message.last_seq:
                runner.heartbeat(message.last_seq)
            return await carry_out(runner, command, principal)
        except HybridError as error:
            return replies.refused(error, command_id)
        except Exception:
            _log.exception("a carried command failed")
            return replies.refused(HybridError("internal"), command_id)
        finally:
            self._carrying -= 1
