"""Whether the promise was kept: judges what publishers were answered, what readers got, and what the log holds.

The promise (`docs/protocol.md`, "Promises"): per channel a reader sees offsets that rise by exactly one in one epoch,
or is told of a reset; a publish that was answered is in the log; one that was not can be repeated without appearing
twice.

A `Checker` is fed with events and does no I/O; times are given to it. It believes nobody: neither the client's own gap
check nor the server's word. `tests/unit/support/test_checker.py` shows each fault it finds, and
`tests/faults/test_checker_sees.py` shows them on the wire of a real server.

    asked --> answered                     of a publication, by its id
    subscribed --> received, was_reset ... --> (ended)     of one reader of one channel: a stream
    read_log                                of a channel, when all is quiet
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from hybrid.model import Position

StreamKey: TypeAlias = tuple[str, str]
"""The reader's name and the channel's."""
_SHOWN_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """A publication that somebody wants to be made. Its data holds its id."""

    channel: str
    data: Any
    at_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A publish that was answered: it is in the log at this position, says the server."""

    id: str
    channel: str
    position: Position
    at_s: float


@dataclass(frozen=True, slots=True)
class Got:
    """A publication that a reader's application was given."""

    position: Position


@dataclass(frozen=True, slots=True)
class Reset:
    """A reader was told that some before this position are lost to it."""

    position: Position


@dataclass(slots=True)
class Stream:
    """One reader of one channel: where it began, and what it was given, in order."""

    start: Position
    items: list[Got | Reset] = field(default_factory=list)
    end: str = ""
    has_left: bool = False
    has_healed: bool = False

    @property
    def last(self) -> Position:
        """Where its application is."""
        return self.items[-1].position if self.items else self.start


@dataclass(slots=True)
class Verdict:
    """What the events came to. `findings` are the first broken promises, in words.

    `lost`, `repeated`, `reordered`: publications of streams; `silent_epochs`: another log without a reset; `forked`:
    a stream went from one log into another with the same epoch and offsets, or kept what is in no log, without a reset;
    `wrong_data`: other data than at another reader, than in the log or than was published; `behind`: streams that have
    not reached the head; `ended`: streams that ended by themselves. `missing`: answered and not in the log, which only
    Redis' own losses excuse; `twice`: ids that are in the log more than once; `misplaced`: answered with another
    position than the log's. `heal_s`: from the end of the fault until every stream had got something that was published
    after it; None when there was no fault, or not all have.
    """

    deliveries: int = 0
    streams: int = 0
    resets: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    silent_epochs: int = 0
    forked: int = 0
    wrong_data: int = 0
    behind: int = 0
    ended: int = 0
    asked: int = 0
    answered: int = 0
    missing: list[Answer] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    heal_s: float | None = None
    findings: list[str] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, int]:
        """Every promise that was broken, with how often. `missing` is left to the caller, who knows what Redis lost."""
        names = ("lost", "repeated", "reordered", "silent_epochs", "forked", "wrong_data", "behind", "ended")
        counts = {name: int(getattr(self, name)) for name in names}
        counts |= {"twice": len(self.twice), "misplaced": len(self.misplaced)}
        return {name: count for name, count in counts.items() if count}

    def check(self, *, may_miss: Iterable[str] = ()) -> None:
        """Raise AssertionError unless every promise was kept. `may_miss`: ids of answered publications that Redis
        itself has lost."""
        missing = sorted({answer.id for answer in self.missing} - set(may_miss))
        if self.broken or missing:
            summary = f"broken: {self.broken}, answered but not in the log: {missing[:_SHOWN_MAX]}"
            raise AssertionError("\n".join([summary, *self.findings]))


class Checker:
    """See the module's text."""

    def __init__(self) -> None:
        self.streams: dict[StreamKey, Stream] = {}
        self.asked_for: dict[str, Asked] = {}
        self.answers: dict[str, Answer] = {}
        self.fault_ended_s: float | None = None
        self._logs: dict[str, list[tuple[Position, str]]] = {}
        self._ids: dict[tuple[str, Position], str] = {}
        self._wrong: list[str] = []
        self._unhealed = 0
        self._healed_s = 0.0

    # -- events

    def asked(self, id: str, channel: str, data: Any, at_s: float) -> None:
        """Somebody begins to publish this; repeats of the same publish are no further event."""
        assert id not in self.asked_for, f"{id} was asked for before"
        self.asked_for[id] = Asked(channel, data, at_s)

    def answered(self, id: str, position: Position, at_s: float) -> None:
        """The publish was answered with success."""
        asked = self.asked_for[id]
        self.answers[id] = Answer(id, asked.channel, position, at_s)
        self._same(id, asked.channel, position, "the publisher's answer")

    def subscribed(self, reader: str, channel: str, start: Position) -> None:
        """A reader goes on after this position."""
        self.streams[reader, channel] = Stream(start)
        self._unhealed += 1

    def received(self, reader: str, channel: str, position: Position, data: Any, at_s: float) -> None:
        """A reader's application was given a publication."""
        stream = self.streams[reader, channel]
        stream.items.append(Got(position))
        id = self._judge_data(channel, position, data, reader)
        if self.fault_ended_s is None or stream.has_healed or id not in self.asked_for:
            return
        if self.asked_for[id].at_s >= self.fault_ended_s:
            stream.has_healed = True
            self._unhealed -= 1
            self._healed_s = at_s

    def was_reset(self, reader: str, channel: str, position: Position) -> None:
        """A reader's application was told that it goes on after this position."""
        self.streams[reader, channel].items.append(Reset(position))

    def ended(self, reader: str, channel: str, reason: str) -> None:
        """A stream ended though nobody wanted it to."""
        self.streams[reader, channel].end = reason or "without a reason"

    def left(self, reader: str, channel: str) -> None:
        """A reader wanted no more of it: what becomes of the log from now on is nothing to it."""
        self.streams[reader, channel].has_left = True

    def fault_ended(self, at_s: float) -> None:
        """From now on it is measured how long it takes until every stream gets something that was published later."""
        self.fault_ended_s = at_s
        self._unhealed = len(self.streams)
        for stream in self.streams.values():
            stream.has_healed = False

    def read_log(self, channel: str, publications: Iterable[tuple[Position, Any]]) -> None:
        """The whole log of a channel, ascending, read when all is quiet."""
        log = []
        for position, data in publications:
            log.append((position, self._judge_data(channel, position, data, "the log")))
        self._logs[channel] = log

    # -- while it runs

    @property
    def has_healed(self) -> bool:
        """Whether every stream has got something that was published after the fault."""
        return self.fault_ended_s is not None and not self._unhealed

    @property
    def heal_s(self) -> float | None:
        """From the end of the fault until the last stream had got something that was published after it."""
        return self._healed_s - self.fault_ended_s if self.has_healed and self.fault_ended_s is not None else None

    @property
    def unhealed(self) -> list[StreamKey]:
        """The streams that have not."""
        return [key for key, stream in self.streams.items() if not stream.has_healed]

    @property
    def unanswered(self) -> list[str]:
        """Publications that were asked for and not answered so far."""
        return [id for id in self.asked_for if id not in self.answers]

    def behind(self, heads: dict[str, Position]) -> list[StreamKey]:
        """The streams that are not at the head of their channel."""
        return [
            key
            for key, stream in self.streams.items()
            if not stream.end and not stream.has_left and stream.last != heads[key[1]]
        ]

    # -- the end

    def verdict(self) -> Verdict:
        """Judge everything. `read_log` must have been called for every channel that has a stream or an answer."""
        made = Verdict(streams=len(self.streams), asked=len(self.asked_for), answered=len(self.answers))
        made.wrong_data = len(self._wrong)
        made.findings += self._wrong[:_SHOWN_MAX]
        for key, stream in self.streams.items():
            _Judge(made, key, self._logs[key[1]]).judge(stream)
        self._judge_answers(made)
        made.heal_s = self.heal_s
        return made

    def _judge_answers(self, made: Verdict) -> None:
        places: dict[str, list[tuple[str, Position]]] = {}
        for channel, log in self._logs.items():
            for position, id in log:
                places.setdefault(id, []).append((channel, position))
        made.twice = [id for id, found in places.items() if len(found) > 1]
        for answer in self.answers.values():
            found = places.get(answer.id, [])
            if not found:
                made.missing.append(answer)
            elif (answer.channel, answer.position) not in found:
                made.misplaced.append(answer.id)
                made.findings.append(f"{answer.id} was answered with {answer.position} and stands at {found}")
        made.findings += [f"{id} stands at {places[id]}" for id in made.twice[:_SHOWN_MAX]]

    def _judge_data(self, channel: str, position: Position, data: Any, where: str) -> str:
        """The id of a publication; what is wrong with its data is noted."""
        id = str(data.get("id", "")) if isinstance(data, dict) else ""
        asked = self.asked_for.get(id)
        if asked is None or asked.data != data or asked.channel != channel:
            self._wrong.append(f"{where} has at {channel} {position} what nobody published: {str(data)[:80]}")
        self._same(id, channel, position, where)
        return id

    def _same(self, id: str, channel: str, position: Position, where: str) -> None:
        known = self._ids.setdefault((channel, position), id)
        if known != id:
            self._wrong.append(f"{where} has {id!r} at {channel} {position}, where {known!r} was seen before")


class _Judge:
    """Judges one stream into a verdict. `log` is what its channel holds at the end."""

    def __init__(self, verdict: Verdict, key: StreamKey, log: list[tuple[Position, str]]) -> None:
        self._verdict = verdict
        self._name = f"{key[0]} on {key[1]}"
        self._head = log[-1][0] if log else None
        self._log = {(position.epoch, position.offset): position.tag for position, _ in log}
        self._counts: Counter[str] = Counter()

    def judge(self, stream: Stream) -> None:
        self._begin_run(stream.start)
        for item in stream.items:
            if isinstance(item, Reset):
                self._count("lost", len(self._holes))
                self._verdict.resets += 1
                self._begin_run(item.position)
            else:
                self._verdict.deliveries += 1
                self._take(item.position)
        self._count("lost", len(self._holes))
        if not stream.has_left:
            self._judge_last_run()
        if stream.end:
            self._count("ended")
        elif not stream.has_left and self._head is not None and self._last != self._head:
            self._count("behind")
        if self._counts:
            detail = f", it ended: {stream.end}" if stream.end else ""
            self._verdict.findings.append(
                f"{self._name}: {dict(self._counts)}, from {stream.start} to {stream.last} of {self._head}{detail}"
            )

    def _begin_run(self, start: Position) -> None:
        self._last = start
        self._run = [start] if start.offset else []
        self._seen = {start.offset}
        self._holes: set[int] = set()

    def _take(self, position: Position) -> None:
        last = self._last
        if last.offset and position.epoch != last.epoch:
            self._count("silent_epochs")
            self._count("lost", len(self._holes))
            self._begin_run(position)
            return
        if position.offset <= last.offset:
            if position.offset in self._holes:
                self._holes.remove(position.offset)
                self._count("reordered")
            else:
                self._count("repeated")
            return
        self._holes.update(range(last.offset + 1, position.offset))
        if position.offset == last.offset + 1 and self._is_fork(last, position):
            self._count("forked")
        self._last = position
        self._run.append(position)

    def _is_fork(self, before: Position, after: Position) -> bool:
        """Whether the log has `after`, but another entry in front of it."""
        is_in_log = self._log.get((after.epoch, after.offset)) == after.tag
        return is_in_log and self._is_elsewhere(before)

    def _judge_last_run(self) -> None:
        """What no reset has taken back must be in the log, as far as the log reaches."""
        if any(self._is_elsewhere(position) for position in self._run) and not self._counts["forked"]:
            self._count("forked")

    def _is_elsewhere(self, position: Position) -> bool:
        """Whether the log has another entry in this place, or another epoch, or ends before it."""
        if self._head is None or not position.offset:
            return False
        if position.epoch != self._head.epoch or position.offset > self._head.offset:
            return True
        return self._log.get((position.epoch, position.offset), position.tag) != position.tag

    def _count(self, what: str, by: int = 1) -> None:
        if by:
            self._counts[what] += by
            setattr(self._verdict, what, getattr(self._verdict, what) + by)
