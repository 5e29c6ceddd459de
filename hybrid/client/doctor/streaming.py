"""What becomes of events that follow each other on a WebSocket or an event stream: asked for at an even pace."""

from __future__ import annotations

import asyncio

from hybrid.cancelling import ended
from hybrid.client.doctor.finding import Finding, Pace, fails, works
from hybrid.client.doctor.lines import Broken, Line, WebSocketLine
from hybrid.client.doctor.rhythm import Beat, Rhythm, judge
from hybrid.client.doctor.words import duration, milliseconds


async def try_line(line: Line, pace: Pace) -> Finding:
    """Open it and ask for heartbeats; it stays open. Raises Told."""
    clock = asyncio.get_running_loop().time
    began_s = clock()
    try:
        await line.open()
        first_s = clock() - began_s
        beats = await _ask_for_beats(line, pace)
    except Broken as broken:
        after = f" after {duration(clock() - began_s)}" if broken.flaw == "cut" and line.attached is not None else ""
        return fails(line.transport, broken.flaw, broken.facts[0] + after, *broken.facts[1:])
    rhythm = judge(beats, gap_s=pace.gap_s, held_s=pace.held_s)
    is_socket = isinstance(line, WebSocketLine)
    opened = f"open after {duration(line.head_s)}" if is_socket else f"first event after {duration(first_s)}"
    if rhythm.kind == "mute":
        return fails(line.transport, "mute", f"{opened}, and then nothing comes through any more", *line.facts)
    if rhythm.kind == "stopped":
        told = f"{opened}, but only {rhythm.count} of {len(beats)} heartbeats came, and nothing behind them"
        return fails(line.transport, "stopped", told, *line.facts)
    facts, flaws = list(line.facts), []
    if not is_socket and first_s - line.head_s >= pace.held_s:
        facts.insert(0, f"the body was held back for {first_s - line.head_s:.1f} s")
        flaws.append("held")
    if rhythm.kind != "even":
        facts.insert(0, _flaw_in_words(rhythm))
        flaws.append(rhythm.kind)
        told = opened
    else:
        told = f"{opened}; heartbeats come {duration(rhythm.lag_s)} after they are asked for"
    figures = {
        "open_ms": milliseconds(line.head_s),
        "first_ms": milliseconds(first_s),
        "lag_ms": milliseconds(rhythm.lag_s),
        "beats_ms": [
            [milliseconds(at_s - began_s) if at_s is not None else None for at_s in (beat.sent_s, beat.came_s)]
            for beat in beats
        ],
    }
    return works(line.transport, told, *facts, flaws=tuple(flaws), figures=figures)


def _flaw_in_words(rhythm: Rhythm) -> str:
    if rhythm.kind == "behind":
        return "one behind: each event is held back until the next one comes, and the last one for ever"
    if rhythm.kind == "lumps":
        return f"in lumps: up to {rhythm.count} events at once, up to {duration(rhythm.lag_s)} late"
    return f"each event is held back for {duration(rhythm.lag_s)}"


async def _ask_for_beats(line: Line, pace: Pace) -> list[Beat]:
    """Raises Broken, Told."""
    clock = asyncio.get_running_loop().time
    sent: list[float] = []
    came: dict[int, float] = {}
    has_come = asyncio.Event()

    async def listen() -> None:
        while True:
            for push in await line.read():
                if push.heartbeat is not None and push.heartbeat.echo:
                    came.setdefault(push.heartbeat.echo, clock())
                    has_come.set()

    async def until_all_came() -> None:
        while len(came) < len(sent):
            has_come.clear()
            await has_come.wait()

    async def ask() -> None:
        sent.append(clock())
        await line.ask(len(sent))

    async def wait(wait_s: float, *others: asyncio.Task[None]) -> None:
        left_s = max(0.0, sent[-1] + wait_s - clock())
        await asyncio.wait({listening, *others}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()

    listening = asyncio.create_task(listen())
    complete: asyncio.Task[None] | None = None
    try:
        for _ in range(pace.beats - 1):
            await ask()
            await wait(pace.gap_s)
        await ask()
        complete = asyncio.create_task(until_all_came())
        await wait(pace.grace_s, complete)
        if not complete.done():
            await ask()  # what is held back until something follows comes with this one
            await wait(pace.grace_s, complete)
    finally:
        await ended(*(task for task in (listening, complete) if task is not None))
    return [Beat(sent_s, came.get(number)) for number, sent_s in enumerate(sent, 1)]
