"""What a session keeps until its client has acknowledged it: numbered pushes, and the replies to numbered commands.

Both are bounded, and empty for nearly every client at nearly every moment: neither holds a container until it has to.
Publications are never kept here; they are healed by positions.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from hybrid.errors import ProtocolError
from hybrid.protocol.pushes import Push, Reply

ReplyTo = TypeVar("ReplyTo")
CommandT = TypeVar("CommandT")


class PushBacklog:
    """Numbered pushes (`seq` from 1), kept until acknowledged, at most `kept_max`.

    `claimed`: the channels of a token that pushes have told of.
    """

    __slots__ = ("_kept", "_kept_max", "_last_seq", "claimed", "has_overflowed")

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._kept: list[Push] | None = None
        self._last_seq = 0
        self.claimed: tuple[str, ...] = ()
        self.has_overflowed = False  # a push was given up: the next attach must be a fresh session

    def add(self, push: Push) -> Push:
        """Number a push and keep it; returns it with its `seq`."""
        self._last_seq += 1
        numbered = msgspec.structs.replace(push, seq=self._last_seq)
        if self._kept is None:
            self._kept = []
        self._kept.append(numbered)
        if len(self._kept) > self._kept_max:
            self._kept.pop(0)
            self.has_overflowed = True
        return numbered

    def widen(self, kept_max: int) -> None:
        """Keep at least so many from now on."""
        self._kept_max = max(self._kept_max, kept_max)

    def follow(self, last_seq: int) -> None:
        """The client was told up to this number, perhaps by another node: number on behind it."""
        self._last_seq = max(self._last_seq, last_seq)

    def acknowledge(self, last_seq: int) -> None:
        """Forget the pushes up to `last_seq`; a number from the future or the past changes nothing it should not."""
        if self._kept is not None:
            self._kept = [push for push in self._kept if push.seq > last_seq] or None

    def unacknowledged(self) -> list[Push]:
        """The kept pushes, in order."""
        return list(self._kept or ())


class CommandSequence(Generic[CommandT, ReplyTo]):
    """One sequence of numbered commands per session, across its legs: each is carried out once and in order.

    `arrive` sorts a command into one of three: repeat (its kept reply is given back, or it is still running), due
    (it and those waiting behind it), or early (it waits for the hole to be filled until `overdue` gives it up).
    """

    __slots__ = ("_early", "_kept_max", "_replies", "last_n")

    def __init__(self, kept_max: int) -> None:
        self.last_n = 0
        self._kept_max = kept_max
        self._replies: dict[int, Reply | list[ReplyTo]] | None = None
        self._early: dict[int, tuple[CommandT, list[ReplyTo], float]] | None = None

    def arrive(
        self, n: int, command: CommandT, reply_to: ReplyTo, deadline_s: float
    ) -> tuple[list[tuple[int, CommandT]], Reply | None]:
        """Returns the commands that are due now, and the kept reply where this was a repeat.

        An empty list and None: the command waits (for an earlier one, or for its first copy to be answered). Raises
        ProtocolError `out_of_order` for a number so far ahead that its hole could not be kept, `outcome_unknown` for
        one so far back that its reply is kept no more.
        """
        if n <= self.last_n:
            return [], self._repeated(n, reply_to)
        if n > self.last_n + self._kept_max:
            raise ProtocolError("out_of_order")
        if self._early is None:
            self._early = {}
        if n in self._early:
            self._early[n][1].append(reply_to)
        else:
            self._early[n] = (command, [reply_to], deadline_s)
        due: list[tuple[int, CommandT]] = []
        while self.last_n + 1 in self._early:
            self.last_n += 1
            next_command, waiting, _ = self._early.pop(self.last_n)
            self._remember(self.last_n, waiting)
            due.append((self.last_n, next_command))
        if not self._early:
            self._early = None
        return due, None

    def answered(self, n: int, reply: Reply) -> list[ReplyTo]:
        """Keep the reply for repeats; returns everyone who waits for it."""
        waiting = (self._replies or {}).get(n)
        self._remember(n, reply)
        return waiting if isinstance(waiting, list) else []

    def overdue(self, now_s: float) -> list[ReplyTo]:
        """Give up commands whose hole was not filled in time; returns who is to be told `out_of_order`."""
        if self._early is None:
            return []
        late = [n for n, (_, _, deadline_s) in self._early.items() if deadline_s <= now_s]
        told = [reply_to for n in late for reply_to in self._early.pop(n)[1]]
        if not self._early:
            self._early = None
        return told

    def next_deadline_s(self) -> float | None:
        """When `overdue` has something to do."""
        return min((deadline_s for _, _, deadline_s in self._early.values()), default=None) if self._early else None

    def _repeated(self, n: int, reply_to: ReplyTo) -> Reply | None:
        kept = (self._replies or {}).get(n)
        if isinstance(kept, Reply):
            return kept
        if kept is None:
            raise ProtocolError("outcome_unknown")  # answered so long ago that the reply is kept no more
        kept.append(reply_to)
        return None

    def _remember(self, n: int, entry: Reply | list[ReplyTo]) -> None:
        if self._replies is None:
            self._replies = {}
        self._replies[n] = entry
        # Only replies are let go of, oldest first: a command that still runs has somebody waiting for it.
        while len(self._replies) > self._kept_max:
            oldest = next((kept for kept, entry in self._replies.items() if isinstance(entry, Reply)), None)
            if oldest is None:
                return
            del self._replies[oldest]
