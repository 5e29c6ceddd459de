"""What is open now: streams and waiting polls, counted against the bound and waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from hybrid.auth.revocation import Key
from hybrid.engine.holders import Match
from hybrid.engine.link import Link
from hybrid.errors import TABLE, HybridError
from hybrid.model import Principal


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


class WaitingPoll:
    """A request that waits. Of its principal, where it has one of its own: a session's polls are the session's.

    `error` is what it has to answer with, where it was sent away.
    """

    __slots__ = ("_principal", "ended", "error")

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal
        self.error: HybridError | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """Let it answer now."""
        if not self.ended.done():
            self.ended.set_result(None)

    def send_away(self, error: str, *, reason: str, delay_ms: int) -> bool:
        """See `Holder.send_away`: it answers with the error now."""
        self.error = HybridError(error, reason, retry_after_s=delay_ms / 1000 if TABLE[error].comes_back else None)
        self.wake()
        return True

    def principals(self) -> Iterable[Principal]:
        """See `Holder.principals`."""
        return () if self._principal is None else (self._principal,)

    def end_if(self, match: Match) -> Key | None:
        """See `Holder.end_if`. Who waits has to look whether this was why."""
        reason = None if self._principal is None else match(self._principal)
        if reason is not None:
            self.wake()
        return reason

    def receive_again(self, principal: Principal) -> None:
        """See `Holder.receive_again`: its answer comes soon, and the next request is checked anew."""


class Census:
    """The open streams of a process, and how many polls wait."""

    __slots__ = ("_emptied", "_streams", "_waiting")

    def __init__(self) -> None:
        self._streams: dict[Stream, None] = {}  # a set of many has two thirds of its places empty
        self._waiting: set[WaitingPoll] = set()
        self._emptied: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._streams) + len(self._waiting)

    def streams(self) -> list[Stream]:
        """The open streams."""
        return list(self._streams)

    def add(self, stream: Stream) -> None:
        """A stream was opened."""
        self._streams[stream] = None

    def discard(self, stream: Stream) -> None:
        """A stream has ended."""
        self._streams.pop(stream, None)
        self._tell()

    def waiting(self) -> list[WaitingPoll]:
        """The requests that wait."""
        return list(self._waiting)

    @contextmanager
    def poll(self, principal: Principal | None = None) -> Iterator[WaitingPoll]:
        """Count a request that waits; its future `ended` is resolved when it should answer at once.

        `principal` is whose it is, where no session is.
        """
        poll = WaitingPoll(principal)
        self._waiting.add(poll)
        try:
            yield poll
        finally:
            self._waiting.discard(poll)
            poll.ended.cancel()
            self._tell()

    def wake_polls(self) -> None:
        """Let every waiting poll answer now."""
        for poll in self._waiting:
            poll.wake()

    async def emptied(self) -> None:
        """Return when nothing is open. Cancel-safe."""
        self._emptied = asyncio.Event()
        self._tell()
        await self._emptied.wait()

    def _tell(self) -> None:
        if self._emptied is not None and not len(self):
            self._emptied.set()
