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
    if not {"idle_cut", "idle_dead"} & set(finding.flaws) or beating.attached is None:
        return finding
    often = f"a heartbeat every {beating.attached.heartbeat_interval_s:g} s"
    if other.works and not other.flaws:
        return replace(finding, facts=(f"{finding.facts[0]}; with {often} it stays open",), flaws=())
    return replace(finding, facts=(f"{finding.facts[0]}; {often} does not keep it open",))


async def hold_line(line: Line, pace: Pace) -> Finding:
    """Open it, say nothing for `pace.idle_s`, then ask whether it is still there. Does not raise; cancel-safe."""
    name = f"{line.transport}-idle"
    clock = asyncio.get_running_loop().time
    try:
        await line.open()
    except (Broken, Told) as error:
        return fails(name, "refused", f"cannot be opened again: {visible(str(error))}")
    assert line.attached is not None
    interval_s = line.attached.heartbeat_interval_s
    began_s = heard_s = clock()
    survived_s = 0.0
    heartbeats = 0
    has_asked = False
    end_s = began_s + pace.idle_s
    while True:
        try:
            async with asyncio.timeout_at(end_s if has_asked else min(end_s, heard_s + interval_s + pace.patience_s)):
                pushes = await line.read()
            now_s = clock()
            if any(push.heartbeat is not None for push in pushes):
                survived_s = max(survived_s, now_s - heard_s)
                if has_asked:
                    return _held(name, now_s - began_s, survived_s, heartbeats)
                heard_s = now_s
                heartbeats += 1
                await line.answer()
        except TimeoutError:
            if has_asked or clock() < end_s:
                # Asked or due, it did not come; when the line died between two of them nobody can tell.
                quiet_s = min(interval_s, clock() - heard_s) if not has_asked else end_s - pace.patience_s - heard_s
                return _dead(name, quiet_s, heard_s - began_s)
            has_asked = True
            end_s = clock() + pace.patience_s
            try:
                await line.ask()
            except (Broken, Told) as error:
                return fails(name, "dead", f"after {duration(clock() - began_s)} of silence: {visible(str(error))}")
        except Broken:
            return _cut(name, clock() - heard_s, heard_s - began_s, survived_s)
        except Told as told:
            words = f"ended by the server itself after {duration(clock() - began_s)}: {visible(told.ending.detail)}"
            return works(name, words)


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
        await polling.poll(wait_s)
    except Told as told:
        return works(name, f"ended by the server itself: {visible(told.ending.detail)}")
    except Broken as broken:
        after_s = clock() - began_s
        words = f"a request that waits is cut after {duration(after_s)} ({broken.facts[0]}); shorter ones are used then"
        return works(name, words, figures={"cut_after_ms": milliseconds(after_s)})
    return works(name, f"a request that waits for {duration(wait_s)} is answered")


def _held(name: str, total_s: float, survived_s: float, heartbeats: int) -> Finding:
    beats = f", and {heartbeats} heartbeat{'s' if heartbeats != 1 else ''} came" if heartbeats else ""
    return works(
        name,
        f"still there after {duration(total_s)}, {duration(survived_s)} of it without a byte{beats}",
        figures={"held_ms": milliseconds(total_s), "silence_ms": milliseconds(survived_s)},
    )


def _cut(name: str, quiet_s: float, heard_after_s: float, survived_s: float) -> Finding:
    figures = {"cut_after_ms": milliseconds(heard_after_s + quiet_s), "silence_ms": milliseconds(quiet_s)}
    if quiet_s < survived_s:
        # It has lived through a longer silence, so this one is not why.
        words = f"cut {duration(heard_after_s + quiet_s)} after its beginning, though it was in use"
        return works(name, words, flaws=("life_cut",), figures=figures)
    return works(name, f"idle cut after {duration(quiet_s)}", flaws=("idle_cut",), figures=figures)


def _dead(name: str, quiet_s: float, heard_after_s: float) -> Finding:
    words = f"silently dead after {duration(quiet_s)} without traffic, and nobody says so"
    figures = {"silence_ms": milliseconds(quiet_s), "heard_after_ms": milliseconds(heard_after_s)}
    return works(name, words, flaws=("idle_dead",), figures=figures)
