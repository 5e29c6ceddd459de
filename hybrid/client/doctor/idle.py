"""What becomes of connections on which nothing is said.

The server's heartbeats bound what can be seen: a silence longer than their interval does not occur, and does not have
to be survived. So a cut is measured to the moment below the interval; above it there is only to see that the
heartbeats do their work, and whether a network ends connections that are in use. Beside each connection another is
held that asks for heartbeats more often: whether that keeps it open is seen, not concluded.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hybrid.client.doctor.finding import Finding, Pace, fails, works
from hybrid.client.doctor.lines import Broken, Line, Told
from hybrid.client.doctor.longpoll import Polling
from hybrid.client.doctor.words import duration, milliseconds, visible


async def hold_lines(silent: Line, beating: Line, pace: Pace) -> Finding:
    """Hold both; what is told is of the silent one, and whether heartbeats help where they are needed. Cancel-safe."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold_line(line, pace)) for line in (silent, beating)]
    finding, other = (task.result() for task in tasks)
    if not _is_idle_end(finding) or beating.attached is None:
        return finding
    often = f"a heartbeat every {beating.attached.heartbeat_interval_s:g} s"
    if other.works and not other.flaws:
        return replace(finding, facts=(f"{finding.facts[0]}; with {often} it stays open",), flaws=())
    if _is_idle_end(other):
        return replace(finding, facts=(f"{finding.facts[0]}; {often} does not keep it open",))
    return replace(finding, facts=(f"{finding.facts[0]}; whether {often} helps is not known, {other.facts[0]}",))


async def hold_line(line: Line, pace: Pace) -> Finding:
    """Open it, say nothing for `pace.idle_s`, then ask whether it is still there. Does not raise; cancel-safe."""
    name = f"{line.transport}-idle"
    clock = asyncio.get_running_loop().time
    try:
        await line.open()
    except (Broken, Told) as error:
        return fails(name, "refused", f"cannot be opened again: {visible(str(error))}")
    assert line.attached is not None
    heard = _Heard(clock())
    try:
        if not await _stay_silent(line, heard, line.attached.heartbeat_interval_s, pace):
            return _dead(name, line.attached.heartbeat_interval_s)
        quiet_s = clock() - heard.at_s
        # Twice: where each event is held back until the next one comes, the first answer needs the second.
        for number in (1, 2):
            await line.ask(number)
            if await _hears_by(line, clock() + pace.patience_s / 2):
                return _held(name, clock() - heard.began_s, max(heard.survived_s, quiet_s), heard.heartbeats)
        return _dead(name, quiet_s)
    except Told as told:
        words = f"ended by the server itself after {duration(clock() - heard.began_s)}: {visible(told.ending.detail)}"
        return works(name, words)
    except Broken as broken:
        if broken.flaw == "posts":
            return fails(name, "posts", *broken.facts)
        return _cut(name, clock() - heard.at_s, clock() - heard.began_s, heard.survived_s)


class _Heard:
    """When something came last, and the longest silence before that. In seconds of the loop's clock."""

    def __init__(self, now_s: float) -> None:
        self.began_s = self.at_s = now_s
        self.survived_s = 0.0
        self.heartbeats = 0

    def heartbeat(self, now_s: float) -> None:
        self.survived_s = max(self.survived_s, now_s - self.at_s)
        self.at_s = now_s
        self.heartbeats += 1


async def _stay_silent(line: Line, heard: _Heard, interval_s: float, pace: Pace) -> bool:
    """Listen only. False as soon as a heartbeat is overdue. Raises Broken, Told."""
    end_s = heard.began_s + pace.idle_s
    while True:
        due_s = min(end_s, heard.at_s + interval_s + pace.patience_s)
        if not await _hears_by(line, due_s):
            return due_s == end_s
        heard.heartbeat(asyncio.get_running_loop().time())
        await line.answer()


async def _hears_by(line: Line, at_s: float) -> bool:
    """Whether a heartbeat comes by then. Raises Broken, Told."""
    try:
        async with asyncio.timeout_at(at_s):
            while not any(push.heartbeat is not None for push in await line.read()):
                pass
    except TimeoutError:
        return False
    return True


async def hold_poll(polling: Polling, pace: Pace) -> Finding:
    """A poll that waits as long as the client's, or `pace.idle_s`. Does not raise; cancel-safe."""
    name = "longpoll-idle"
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        await polling.attach()
        assert polling.attached is not None
        wait_s = min(pace.idle_s, polling.attached.limits.poll_wait_max_s)
        began_s = clock()
        waited_s = await polling.poll(wait_s)
    except Told as told:
        words = f"ended by the server itself after {duration(clock() - began_s)}: {visible(told.ending.detail)}"
        return works(name, words)
    except Broken as broken:
        after_s = clock() - began_s
        words = f"a request that waits is cut after {duration(after_s)} ({broken.facts[0]}); shorter ones are used then"
        return works(name, words, figures={"cut_after_ms": milliseconds(after_s)})
    words = f"a request that is to wait for {duration(wait_s)} is answered after {duration(waited_s)}"
    return works(name, words, figures={"held_ms": milliseconds(waited_s)})


def _is_idle_end(finding: Finding) -> bool:
    return "idle_cut" in finding.flaws or "idle_dead" in finding.flaws


def _held(name: str, total_s: float, survived_s: float, heartbeats: int) -> Finding:
    beats = f", and {heartbeats} heartbeat{'s' if heartbeats != 1 else ''} came" if heartbeats else ""
    return works(
        name,
        f"still there after {duration(total_s)}, {duration(survived_s)} of it without a byte{beats}",
        figures={"held_ms": milliseconds(total_s), "silence_ms": milliseconds(survived_s)},
    )


def _cut(name: str, quiet_s: float, total_s: float, survived_s: float) -> Finding:
    figures = {"cut_after_ms": milliseconds(total_s), "silence_ms": milliseconds(quiet_s)}
    if quiet_s < survived_s:
        # It has lived through a longer silence, so this one is not why.
        words = f"cut {duration(total_s)} after its beginning, though it was in use"
        return works(name, words, flaws=("life_cut",), figures=figures)
    return works(name, f"idle cut after {duration(quiet_s)}", flaws=("idle_cut",), figures=figures)


def _dead(name: str, quiet_s: float) -> Finding:
    """When it died nobody can tell: only that it did within this silence."""
    words = f"found silently dead after {duration(quiet_s)} without traffic"
    return works(name, words, flaws=("idle_dead",), figures={"silence_ms": milliseconds(quiet_s)})
