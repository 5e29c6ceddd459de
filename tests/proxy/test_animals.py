"""The animals of the zoo do what they are said to do: shown with an honest server and a client that knows nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.proxy.zoo.animals import ANIMALS, Absent, Animal, Origin, Route
from tests.proxy.zoo.honest import Honest, honest
from tests.proxy.zoo.visitor import conversation

_HANG_S: Final = 3.0
"""Nothing came for so long, where an answer takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a visitor finds behind an animal.

    `socket`: "open", "mute" (101 and no frame), "hang" (no answer) or the status. `stream` and `accel` (where the origin
    forbids buffering): "streams", "held" (the first event after the last was sent). `poll`: the status after 2 s.
    """

    socket: str
    stream: str
    accel: str
    poll: int


def _seen(socket: str, stream: str = "streams", poll: int = 200, *, accel: str = "") -> Seen:
    return Seen(socket, stream, accel or stream, poll)


SEEN: Final = {}


@pytest.fixture(params=[a.name for a in ANIMALS.values()])
def animal(request: pytest.FixtureRequest) -> Animal:
    return ANIMALS[request.param]


@asynccontextmanager
async def released(animal: Animal, folder: Path) -> AsyncIterator[tuple[Honest, Route]]:
    if absent := animal.missing():
        pytest.skip(f"needs {', '.join(absent)}, not found")
    (folder / "scratch").mkdir()
    async with honest(folder / "origin") as (server, origin):
        try:
            async with animal.release(origin, folder / "scratch") as route:
                yield server, route
        except Absent as error:
            pytest.skip(str(error))


async def try_socket(route: Route) -> str:
    async with conversation(route) as talk:
        try:
            async with asyncio.timeout(_HANG_S):
                head = await talk.upgrade("/v1/ws")
        except TimeoutError:
            return "hang"
        if head.status != 101:
            return str(head.status)
        try:
            async with asyncio.timeout(_HANG_S):
                await talk.hear()
                await talk.say(b"hello")
                while await talk.hear() != b"echo hello":
                    pass
        except TimeoutError:
            return "mute"
        return "open"


async def try_stream(server: Honest, route: Route, path: str) -> str:
    async with conversation(route) as talk:
        server.sent_all.clear()
        head = await talk.ask("GET", path, "Accept: text/event-stream", "Accept-Encoding: gzip")
        t = time.monotonic()
        assert head.status == 200
        if not await talk.reader.read(1):
            return "empty"
        print(path, head, time.monotonic() - t)
        return "held" if server.sent_all.is_set() else "streams"


async def try_poll(route: Route) -> int:
    async with conversation(route) as talk:
        return (await talk.ask("GET", "/v1/poll")).status


@pytest.mark.zoo
async def test_it_does_what_it_says(animal: Animal, tmp_path: Path) -> None:
    t = time.monotonic()
    async with released(animal, tmp_path) as (server, route):
        print("STARTED", animal.name, time.monotonic() - t)
        async with asyncio.timeout(30):
            socket, stream, poll = await asyncio.gather(
                try_socket(route), try_stream(server, route, "/v1/events"), try_poll(route)
            )
            accel = await try_stream(server, route, "/v1/events/accel")
        t = time.monotonic()
    seen = Seen(socket, stream, accel, poll)
    print(
        "SEEN", animal.name, seen, time.monotonic() - t, [h for h in server.heads if "/ws" in h or "events" in h][-1:]
    )
    await asyncio.sleep(0)
