"""What is open now: streams and waiting polls, counted against the bounds and waited for at the end.

They are counted in all, for each address and for each principal, who is one whichever client it uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeAlias

from hybrid.auth.door import address_group
from hybrid.auth.revocation import Key
from hybrid.engine.holders import Match
from hybrid.engine.link import Link, address_of
from hybrid.engine.shares import Shares
from hybrid.engine.wait import Wait
from hybrid.errors import TABLE, HybridError
from hybrid.model import Principal

Party: TypeAlias = tuple[str, str]
"""Issuer and subject."""
_ABSENT: Final = object()


class Stream(Protocol):
    """Anything with an open link that a drain has to end."""

    @property
    def link(self) -> Link:
        """Its link."""

    def end(self, error: str, *, delay_ms: int = 0) -> None:
        """Say goodbye and close."""

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`."""

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`."""

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`."""


class WaitingPoll(Wait):
    """A request that waits, counted inside `with`; it is ended when it should answer at once.

    It is of its principal, where it has one of its own: a session's polls are the session's. `error` is what it has to
    answer with, where it was sent away.
    """

    __slots__ = ("_census", "_principal", "address", "error", "party")

    def __init__(self, census: Census, principal: Principal | None, address: str, party: Party | None) -> None:
        """`address` is a group's; it and `party` are whom it counts for."""
        super().__init__()
        self._census = census
        self._principal = principal
        self.address = address
        self.party = party
        self.error: HybridError | None = None

    def __enter__(self) -> WaitingPoll:
        self._census.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._census.end(self)

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`: it answers with the error now."""
        self.error = HybridError(error, reason, retry_after_s=delay_ms / 1000 if TABLE[error].comes_back else None)
        self.end()
        return True

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""
        return () if self._principal is None else (self._principal,)

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`. Who waits has to look whether this was why."""
        reason = None if self._principal is None else match(self._principal)
        if reason is not None:
            self.end()
        return reason

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`: its answer comes soon, and the next request is checked anew."""


class Census:
    """The open streams of a process, and how many polls wait."""

    __slots__ = ("_emptied", "_per_address", "_per_party", "_streams", "_waiting")

    def __init__(self) -> None:
        # Of each whom it counts for. A set of many has two thirds of its places empty.
        self._streams: dict[Stream, Principal | None] = {}
        self._waiting: set[WaitingPoll] = set()
        self._per_address = Shares()
        self._per_party = Shares()
        self._emptied: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._streams) + len(self._waiting)

    def streams(self) -> list[Stream]:
        """The open streams."""
        return list(self._streams)

    def of_address(self, address: str) -> int:
        """How many of them, and waiting polls, are of this address; perhaps some of another one among them."""
        return self._per_address.at_most(address_group(address))

    def of_principal(self, principal: Principal) -> int:
        """How many are of this principal, likewise."""
        return self._per_party.at_most(_party(principal))

    def is_full_of_address(self, address: str, limit: int) -> bool:
        """Whether that many are of this address, and of no other."""
        return self._per_address.reaches(address_group(address), limit, self._addresses)

    def is_full_of_principal(self, principal: Principal, limit: int) -> bool:
        """Whether that many are of this principal, and of no other; nobody anonymous has any."""
        return not principal.is_anonymous and self._per_party.reaches(_party(principal), limit, self._parties)

    def add(self, stream: Stream) -> None:
        """A stream was opened."""
        self._streams[stream] = None
        self._per_address.change(address_group(address_of(stream.link.peer)), 1)

    def identified(self, stream: Stream, principal: Principal) -> None:
        """It is known whose an open stream is, or it has shown another token of the same one.

        For one that has ended it changes nothing.
        """
        counted = self._streams.get(stream, _ABSENT)
        if counted is _ABSENT or principal.is_anonymous:
            return
        if counted is None:
            self._per_party.change(_party(principal), 1)
        self._streams[stream] = principal  # the newest: the one before shall not be kept for this

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        if stream in self._streams:
            counted = self._streams.pop(stream)
            self._per_address.change(address_group(address_of(stream.link.peer)), -1)
            if counted is not None:
                self._per_party.change(_party(counted), -1)
        self._tell()

    def _addresses(self) -> Iterator[str]:
        for stream in self._streams:
            yield address_group(address_of(stream.link.peer))
        for poll in self._waiting:
            yield poll.address

    def _parties(self) -> Iterator[Party | None]:
        for principal in self._streams.values():
            yield None if principal is None else _party(principal)
        for poll in self._waiting:
            yield poll.party

    def waiting(self) -> list[WaitingPoll]:
        """The requests that wait."""
        return list(self._waiting)

    def poll(
        self, principal: Principal | None = None, *, address: str = "", party: Principal | None = None
    ) -> WaitingPoll:
        """A request that may have to wait.

        `principal` is whose it is, where no session is; `party` who it counts for, where a session is.
        """
        counted = principal or party
        key = None if counted is None or counted.is_anonymous else _party(counted)
        return WaitingPoll(self, principal, address_group(address), key)

    def begin(self, poll: WaitingPoll) -> None:
        """It waits from now on."""
        self._waiting.add(poll)
        self._per_address.change(poll.address, 1)
        if poll.party is not None:
            self._per_party.change(poll.party, 1)

    def end(self, poll: WaitingPoll) -> None:
        """It waits no more."""
        self._waiting.discard(poll)
        self._per_address.change(poll.address, -1)
        if poll.party is not None:
            self._per_party.change(poll.party, -1)
        self._tell()

    def wake_polls(self) -> None:
        """Let every waiting poll answer now."""
        for poll in self._waiting:
            poll.end()

    async def emptied(self) -> None:
        """Return when nothing is open. Cancel-safe."""
        if self._emptied is None or self._emptied.is_set():  # two may wait: a drain that was asked for, and the end
            self._emptied = asyncio.Event()
        emptied = self._emptied
        self._tell()
        await emptied.wait()

    def _tell(self) -> None:
        if self._emptied is not None and not len(self):
            self._emptied.set()


def _party(principal: Principal) -> Party:
    return principal.issuer, principal.subject
