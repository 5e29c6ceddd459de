"""Where a client stands on a channel, and what is wrong with what it got."""

from __future__ import annotations

from typing import Final

from hybrid.bench.messages import Tally
from hybrid.bench.reading import Run
from hybrid.protocol.commands import WirePosition

_MISSING_MAX: Final = 10_000
_EXAMPLES_MAX: Final = 5


class Track:
    """One client on one channel: the offset that must come next, in which epoch, and where it would go on from."""

    __slots__ = ("channel", "epoch", "is_started", "missing", "next", "position")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.next = 0
        self.epoch = ""
        self.position: WirePosition | Run = WirePosition(0)
        self.is_started = False
        self.missing: set[int] | None = None

    @property
    def wire_position(self) -> WirePosition:
        """What it has got, as the wire wants it."""
        return self.position.position if isinstance(self.position, Run) else self.position

    def start(self, position: WirePosition) -> None:
        """Go on from there, without asking what was before."""
        self.next = position.offset + 1
        self.epoch = position.epoch
        self.position = position
        self.is_started = True
        self.missing = None

    def receive_position(self, position: WirePosition, *, was_recovered: bool, tally: Tally) -> None:
        """The server says from where it goes on: at first from anywhere, later from where we are, or it resets."""
        if not self.is_started:
            self.start(position)
        elif not was_recovered:
            tally.resets += 1
            self.start(position)
        elif position.offset + 1 > self.next:
            _note(tally, f"{self.channel}: went on at {position.offset} instead of {self.next - 1} without a reset")
            tally.lost += position.offset + 1 - self.next
            self.start(position)

    def receive_reset(self, position: WirePosition, tally: Tally) -> None:
        """Publications were lost to us, and we are told so."""
        if self.is_started:
            tally.resets += 1
        self.start(position)

    def receive_unexpected(self, run: Run, tally: Tally) -> None:
        """A run that does not begin with `next` in `epoch`."""
        if not self.is_started:
            tally.unexpected += 1
            _note(tally, f"{self.channel}: {run.first} came before the position to begin with")
            self.start(WirePosition(run.first - 1, run.epoch, run.tag))
        if run.epoch != self.epoch:
            # Offset 0 has no epoch: whichever log begins then is the one.
            if self.epoch:
                tally.unexpected += 1
                _note(tally, f"{self.channel}: another epoch without a reset, at offset {run.first}")
                self.next = run.first
                self.missing = None
            self.epoch = run.epoch
        if run.first > self.next:
            tally.lost += run.first - self.next
            _note(tally, f"{self.channel}: {_span(self.next, run.first - 1)} did not come, {run.first} did")
            self.missing = self.missing or set()
            room = _MISSING_MAX - len(self.missing)
            self.missing.update(range(self.next, min(run.first, self.next + max(0, room))))
        elif run.first < self.next:
            self._receive_again(run, tally)
        self.next = max(self.next, run.last + 1)
        self.position = run

    def _receive_again(self, run: Run, tally: Tally) -> None:
        for offset in range(run.first, min(run.last + 1, self.next)):
            if self.missing and offset in self.missing:
                self.missing.discard(offset)
                tally.lost -= 1
                tally.reordered += 1
                _note(tally, f"{self.channel}: {offset} came after {self.next - 1}")
            else:
                tally.repeated += 1
                _note(tally, f"{self.channel}: {offset} came again, after {self.next - 1}")


def _note(tally: Tally, words: str) -> None:
    if len(tally.examples) < _EXAMPLES_MAX:
        tally.examples.append(words)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
