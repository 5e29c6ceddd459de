"""Commands on their way: which wait for an answer, which are numbered, and what is sent again after a change of leg.

One table per client. Publishes and calls carry a key and reads change nothing, so all of them may be repeated on
another leg; commands that change the session itself carry a number instead, one sequence per session. On a polled leg
they carry the sealed list, of which each answer brings a new one, so there one is sent at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from hybrid.client.ending import error_of
from hybrid.client.leg import Leg
from hybrid.errors import HybridError
from hybrid.protocol.commands import AnyCommand, Publish, Refresh, Subscribe, Unsubscribe
from hybrid.protocol.commands import Call as CallCommand
from hybrid.protocol.pushes import Reply

Answer: TypeAlias = Reply | HybridError
_KEY_MARGIN_S: Final = 5.0
"""A keyed command is given up this long before the server forgets its key: the repeat must still be on time."""


@dataclass(slots=True)
class Call:
    """One command until it is answered. `session` and `n` are set when it was sent with a number."""

    command: AnyCommand
    answer: Callable[[Answer], None]
    first_sent_s: float | None = None
    sent_s: float | None = None
    session: str = ""
    n: int = 0
    is_in_flight: bool = False

    @property
    def is_membership(self) -> bool:
        """True for the commands that change the session: those are numbered, or sealed."""
        return isinstance(self.command, Subscribe | Unsubscribe | Refresh)

    @property
    def is_keyed(self) -> bool:
        """True for what takes effect, and takes it once while the server knows its key."""
        return isinstance(self.command, Publish | CallCommand)


class Calls:
    """See the module's text."""

    def __init__(self) -> None:
        self.key_window_s = 300.0
        self._calls: dict[int, Call] = {}
        self._last_id = 0
        self._session = ""
        self._last_n = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def has_membership_in_flight(self) -> bool:
        """True while a command that changes the session is sent but not answered."""
        return any(call.is_membership and call.is_in_flight for call in self._calls.values())

    def add(self, command: AnyCommand, answer: Callable[[Answer], None]) -> Call:
        """Take in a command; `answer` is called once, with the reply or an error."""
        self._last_id += 1
        call = Call(msgspec.structs.replace(command, id=self._last_id), answer)
        self._calls[self._last_id] = call
        return call

    def forget(self, call: Call) -> None:
        """Nobody waits any more. A numbered command is kept all the same: leaving it out would make a hole."""
        if not call.n:
            self._calls.pop(call.command.id, None)
        else:
            call.answer = _nobody

    def begin_session(self, session: str, *, has_said_all: bool) -> list[Call]:
        """A leg of this session is current. In a new session numbers start from 1, and an attach has said it all:

        returns the commands that it has answered, which are out of the table. `has_said_all` False: there was none, a
        poll was answered by a node that did not know the session. What is sealed is then answered where it was sent.
        """
        if session == self._session:
            return []
        self._session, self._last_n = session, 0
        said = [
            call
            for call in self._calls.values()
            if call.is_membership and call.first_sent_s is not None and (has_said_all or call.n)
        ]
        for call in said:
            self._calls.pop(call.command.id)
        return said

    def leg_lost(self) -> None:
        """Nothing is in flight any more."""
        for call in self._calls.values():
            call.is_in_flight = False

    @property
    def has_numbered(self) -> bool:
        """True while a numbered command of this session is unanswered; a polled leg could not send it again."""
        return any(call.n for call in self._calls.values())

    def send_all(self, leg: Leg, now_s: float, *, sealed: str, may_change: bool) -> None:
        """Send on this leg what is not in flight. `may_change` False holds back what would change the session."""
        for call in list(self._calls.values()):
            if call.is_in_flight or (call.is_membership and not may_change):
                continue
            if leg.is_polled and call.is_membership and self.has_membership_in_flight:
                continue
            if self._is_too_late(call, now_s):
                self._calls.pop(call.command.id)
                call.answer(error_of(3414))
                continue
            leg.send(self._for_leg(call, leg, sealed))
            call.is_in_flight = True
            call.sent_s = now_s
            if call.first_sent_s is None:
                call.first_sent_s = now_s

    def replied(self, reply: Reply) -> Call | None:
        """The call that a reply answers, now out of the table; None for one that is not known (any more)."""
        return self._calls.pop(reply.id, None)

    def fail_all(self, error: HybridError) -> None:
        """Nothing will be answered any more."""
        for call in self._drain():
            unknown = call.is_keyed and call.first_sent_s is not None
            call.answer(error_of(3414) if unknown else error)

    def _drain(self) -> Iterator[Call]:
        while self._calls:
            yield self._calls.pop(next(iter(self._calls)))

    def _is_too_late(self, call: Call, now_s: float) -> bool:
        return (
            call.is_keyed
            and call.first_sent_s is not None
            and now_s - call.first_sent_s > self.key_window_s - _KEY_MARGIN_S
        )

    def _for_leg(self, call: Call, leg: Leg, sealed: str) -> AnyCommand:
        command = call.command
        if isinstance(command, Subscribe | Unsubscribe):
            if leg.is_polled:
                return msgspec.structs.replace(command, sealed=sealed)
            return msgspec.structs.replace(command, n=self._number(call))
        if isinstance(command, Refresh):
            token = command.token if leg.sends_token else ""
            return msgspec.structs.replace(command, n=self._number(call), token=token)
        return command

    def _number(self, call: Call) -> int:
        if not call.n:
            self._last_n += 1
            call.n = self._last_n
            call.session = self._session
        return call.n


def _nobody(answer: Answer) -> None:
    """For answers that nobody waits for."""
