"""Networks that no proxy's configuration can play, played by a relay of our own: `tests.proxy.zoo.chaos`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo import chaos
from tests.proxy.zoo.animals.base import Animal, Origin, Route
from tests.proxy.zoo.chaos import HOST, Network


def _chaos(name: str, says: str, network: Network) -> Animal:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        async with chaos.relay(network, origin.host, origin.port) as port:
            yield Route(f"http://{HOST}:{port}")

    return Animal(f"chaos-{name}", says, (), release)


_KB: Final = 1_024
ANIMALS: Final = (
    _chaos(
        "dying-101",
        "Lets upgrades through and resets them after 200 ms.",
        Network(upgraded=chaos.dying(0.2)),
    ),
    _chaos("mute-101", "Lets upgrades through, and then nothing more.", Network(upgraded=chaos.mute)),
    _chaos(
        "one-behind",
        "A virus scanner that delivers each piece of a stream or WebSocket when the next one comes.",
        Network(upgraded=chaos.downward(chaos.one_behind), streams=chaos.one_behind),
    ),
    _chaos(
        "held-64k",
        "A virus scanner that holds the first 64 KB of a stream.",
        Network(streams=chaos.held(64 * _KB)),
    ),
    _chaos(
        "held-2m",
        "A virus scanner that holds the first 2 MB of a stream.",
        Network(streams=chaos.held(2 * _KB * _KB)),
    ),
    _chaos(
        "dribble",
        "The first 256 bytes of whatever comes down arrive one by one.",
        Network(anything=chaos.downward(chaos.dribbled(256, 0.0005))),
    ),
    _chaos(
        "idle-1s",
        "Resets connections that were silent for one second.",
        Network(anything=chaos.idle(1.0, is_silent=False)),
    ),
    _chaos(
        "idle-10s",
        "Resets connections that were silent for ten seconds.",
        Network(anything=chaos.idle(10.0, is_silent=False)),
    ),
    _chaos(
        "idle-10s-silent",
        "Forgets connections that were silent for ten seconds, and tells nobody.",
        Network(anything=chaos.idle(10.0, is_silent=True)),
    ),
    _chaos(
        "idle-30s",
        "Resets connections that were silent for thirty seconds.",
        Network(anything=chaos.idle(30.0, is_silent=False)),
    ),
    _chaos(
        "idle-30s-silent",
        "Forgets connections that were silent for thirty seconds, and tells nobody.",
        Network(anything=chaos.idle(30.0, is_silent=True)),
    ),
    _chaos(
        "rate-2g",
        "30 kbit/s downward, and 300 ms there and back.",
        Network(anything=chaos.slow(30_000 / 8, 0.15)),
    ),
    _chaos(
        "lumpy",
        "A virus scanner that delivers what came of a stream or WebSocket every four seconds.",
        Network(upgraded=chaos.downward(chaos.in_lumps(4.0)), streams=chaos.in_lumps(4.0)),
    ),
    _chaos(
        "lumpy-line",
        # No round trip ends within four seconds here, so no client can have a publication within three.
        "A line on which everything comes down every four seconds, answers and pages too.",
        Network(anything=chaos.downward(chaos.in_lumps(4.0))),
    ),
    _chaos(
        "post-blocked",
        "Refuses the POSTs of commands with 403, and lets everything else through.",
        Network(refused=("POST /v1/command",)),
    ),
    _chaos(
        "max-response-128k",
        "Ends streams after 128 KB.",
        Network(streams=chaos.cut_after(128 * _KB)),
    ),
)
