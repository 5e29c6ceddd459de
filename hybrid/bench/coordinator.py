"""Runs a plan: starts the load's processes, leads them through the phases, and makes the result.

    connect -> idle -> deliver [-> reconnect -> deliver] -> drain -> end

An interruption goes on with `drain` at once: what was measured until then is what was paid for.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from hybrid.bench.messages import Done, Failed, Opened, Order, Ready, Say, Stopped, Target, Tick, Told
from hybrid.bench.plan import Plan
from hybrid.bench.record import Record
from hybrid.bench.result import Result
from hybrid.bench.server import Sample, ServerProcesses

_LINE_MAX_BYTES: Final = 134_217_728
_SAMPLE_S: Final = 0.25
_START_S: Final = 60.0
_IDLE_S: Final = 1.0
_LEAVE_S: Final = 5.0
_ANSWER_S: Final = 10.0
_Kind = TypeVar("_Kind", Ready, Opened, Stopped, Done)

Watch = Callable[[Record], None]
"""Called several times a second with what is known."""


class BenchFailed(Exception):
    """The load could not be run; the text says why and what to do."""


class _Member:
    """One load process."""

    def __init__(self, index: int, process: asyncio.subprocess.Process) -> None:
        self.index = index
        self.process = process
        self.told: dict[type, Told] = {}
        self.has_ended = False

    def say(self, say: Say) -> None:
        assert self.process.stdin is not None
        with suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(msgspec.json.encode(say) + b"\n")


class Coordinator:
    """One run. `interrupt` may be called at any time; a second time ends the processes at once."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        tokens: Sequence[str],
        *,
        pids: Sequence[int] = (),
        watch: Watch = lambda record: None,
    ) -> None:
        """Raises SettingsError for pids that cannot be looked at."""
        self._plan = plan
        self._target = target
        self._tokens = list(tokens)
        self._server = ServerProcesses(pids) if pids else None
        self._watch = watch
        self._members: list[_Member] = []
        self._heard = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._record = Record(plan, time.monotonic_ns())
        self._failure = ""

    def interrupt(self) -> None:
        """End it, with what is measured by now."""
        if self._interrupted.is_set():
            for member in self._members:
                with suppress(ProcessLookupError):
                    member.process.kill()
        self._interrupted.set()
        self._heard.set()

    async def run(self) -> Result:
        """The result. Raises BenchFailed. Cancellation ends the processes."""
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        readers: list[asyncio.Task[None]] = []
        try:
            for index in range(self._plan.processes):
                self._members.append(_Member(index, await _start()))
            readers = [asyncio.create_task(self._read(member)) for member in self._members]
            for member in self._members:
                order = Order(self._plan, self._target, member.index, self._tokens)
                assert member.process.stdin is not None
                member.process.stdin.write(msgspec.json.encode(order) + b"\n")
            await self._phases()
        finally:
            await self._leave(readers)
        if self._failure:
            raise BenchFailed(self._failure)
        return self._record.result(self._target, started_at, was_interrupted=self._interrupted.is_set())

    # -- phases

    async def _phases(self) -> None:
        plan, record = self._plan, self._record
        await self._told(Ready, _START_S)
        record.began_ns = time.monotonic_ns()
        self._sample("before")
        self._begin("connect")
        self._say(Say("open", at_ns=time.monotonic_ns()))
        await self._told(Opened, plan.connect_timeout_s)
        self._sample("opened")
        self._begin("idle")
        if plan.clients and not self._is_over:
            await self._wait(_IDLE_S if self._server is not None else 0.1)
        self._sample("idle")
        if plan.duration_s > 0 or plan.is_reconnect_storm:
            await self._deliver()
        self._begin("drain")
        heads = await self._stop()
        self._forget(Done)
        self._say(Say("finish", heads=heads))
        await self._told(Done, plan.drain_s + _ANSWER_S, even_if_over=True)
        self._sample("end")
        self._begin("end")
        for member in self._members:
            done = member.told.get(Done)
            if isinstance(done, Done):
                record.tallies[member.index] = done.tally

    async def _deliver(self) -> None:
        plan, record = self._plan, self._record
        self._sample("deliver")
        self._begin("deliver")
        began_s = time.monotonic()
        self._say(Say("publish"))

        def has_sent(share: float) -> Callable[[], bool]:
            count = plan.publications
            return lambda: record.is_hopeless or (count > 0 and record.sent >= count * share)

        if plan.is_reconnect_storm:
            await self._wait(plan.duration_s / 2, has_sent(0.5))
            if self._is_over:
                return
            self._begin("reconnect")
            self._forget(Opened)
            self._say(Say("storm", at_ns=time.monotonic_ns()))
            await self._told(Opened, plan.connect_timeout_s)
            record.end_storm()
            self._begin("deliver")
        left_s = plan.duration_s - (time.monotonic() - began_s)
        await self._wait(max(0.0, left_s), has_sent(1.0))

    async def _stop(self) -> dict[str, tuple[str, int, int]]:
        """The last position of each channel: of the epoch that was answered last."""
        self._say(Say("stop"))
        await self._told(Stopped, _ANSWER_S, even_if_over=True)
        heads: dict[str, tuple[str, int, int]] = {}
        for member in self._members:
            stopped = member.told.get(Stopped)
            if not isinstance(stopped, Stopped):
                continue
            self._record.unsent += stopped.unsent
            for channel, head in stopped.heads.items():
                known = heads.get(channel)
                is_newer = known is None or (head[1] > known[1] if head[0] == known[0] else head[2] > known[2])
                if is_newer:
                    heads[channel] = head
        return heads

    def _begin(self, phase: str) -> None:
        self._record.begin(phase, time.monotonic_ns())
        self._watch(self._record)

    # -- waiting

    @property
    def _is_over(self) -> bool:
        return self._interrupted.is_set() or bool(self._failure)

    async def _told(self, kind: type[_Kind], timeout_s: float, *, even_if_over: bool = False) -> None:
        """Wait until every process that still runs has told it."""

        def has_come() -> bool:
            return all(member.has_ended or kind in member.told for member in self._members)

        await self._wait(timeout_s, has_come, even_if_over=even_if_over)
        if kind is Opened and self._record.phase == "connect":
            for member in self._members:
                opened = member.told.get(Opened)
                self._record.failed[member.index] = opened.failed if isinstance(opened, Opened) else 0

    def _forget(self, kind: type) -> None:
        for member in self._members:
            member.told.pop(kind, None)

    async def _wait(
        self, seconds: float, has_come: Callable[[], bool] = lambda: False, *, even_if_over: bool = False
    ) -> None:
        until_s = time.monotonic() + seconds
        sampled_s = 0.0
        while not has_come() and (even_if_over or not self._is_over):
            left_s = until_s - time.monotonic()
            if left_s <= 0 or all(member.has_ended for member in self._members):
                return
            if time.monotonic() - sampled_s >= _SAMPLE_S:
                sampled_s = time.monotonic()
                self._sample("now")
                self._watch(self._record)
            self._heard.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _SAMPLE_S)):
                    await self._heard.wait()

    def _sample(self, what: str) -> None:
        sample: Sample | None = self._server.sample() if self._server is not None else None
        self._record.sampled(what, sample, time.monotonic_ns())

    # -- the processes

    def _say(self, say: Say) -> None:
        for member in self._members:
            member.say(say)

    async def _read(self, member: _Member) -> None:
        try:
            await self._listen(member)
        finally:
            member.has_ended = True
            self._heard.set()
        if self._record.phase != "end" and not self._interrupted.is_set():
            status = await member.process.wait()
            self._failure = self._failure or f"A load process ended with status {status}; what it said stands above."
            self._heard.set()

    async def _listen(self, member: _Member) -> None:
        decoder = msgspec.json.Decoder(Told)
        stdout = member.process.stdout
        assert stdout is not None
        while line := await stdout.readline():
            told: Told = decoder.decode(line)
            if isinstance(told, Tick):
                self._record.take(member.index, told)
            elif isinstance(told, Failed):
                self._failure = self._failure or told.detail
            else:
                member.told[type(told)] = told
            self._heard.set()

    async def _leave(self, readers: Sequence[Awaitable[None]]) -> None:
        self._say(Say("leave"))
        for member in self._members:
            if member.process.stdin is not None:
                member.process.stdin.close()
        try:
            async with asyncio.timeout(_LEAVE_S):
                for member in self._members:
                    await member.process.wait()
        except TimeoutError:
            pass
        finally:
            for member in self._members:
                with suppress(ProcessLookupError):
                    member.process.kill()
            for member in self._members:
                await member.process.wait()
            await asyncio.gather(*readers, return_exceptions=True)


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hybrid.bench.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_MAX_BYTES,
        start_new_session=True,  # Ctrl-C is for the coordinator, which wants to hear what they have measured
    )
