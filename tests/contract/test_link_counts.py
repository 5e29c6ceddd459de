"""After many of each kind of misbehaviour (a thousand in the slow runs), everything is back where it started.

Tasks, links and descriptors are counted in the server's own process; each connection of a client is closed before.
"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import pytest

from hybrid.limits import Limits
from hybrid.links.asgi import AsgiEventStream, AsgiWebSocket
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.links.inbound import TEXT
from hybrid.links.open import OpenLink
from tests.support.asgi_server import (
    HANDSHAKE,
    Kind,
    LinkApp,
    RawClient,
    client_frame,
    connected,
    frame_head,
    on_each_loop,
    serving,
)

AT_ONCE = 50
GET = b"GET /sse HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
Visit = Callable[[RawClient], Awaitable[None]]


async def pipelined(client: RawClient) -> None:
    await client.send(GET * 3)
    await client.head()


async def pipelined_later(client: RawClient) -> None:
    await client.send(GET)
    await client.head()
    await client.send(GET)


async def head_only(client: RawClient) -> None:
    await client.send(GET.replace(b"GET", b"HEAD"))
    await client.head()


async def reset(client: RawClient) -> None:
    await client.send(GET)
    await client.head()
    client.reset()


async def half_closed(client: RawClient) -> None:
    await client.send(GET)
    await client.head()
    client.writer.write_eof()
    await client.rest()


async def half_closed_at_once(client: RawClient) -> None:
    await client.send(GET)
    client.writer.write_eof()
    await client.rest()


async def aborted_before_the_answer(client: RawClient) -> None:
    client.writer.write(GET)
    await asyncio.sleep(0)
    client.reset()


async def body_that_nobody_reads(client: RawClient) -> None:
    client.writer.write(GET.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost") + b"1\r\nx\r\n" * 100)
    await client.head()


async def websocket_reset(client: RawClient) -> None:
    await client.send(HANDSHAKE % b"")
    await client.head()
    client.reset()


async def websocket_in_the_middle_of_a_frame(client: RawClient) -> None:
    await client.send(HANDSHAKE % b"")
    await client.head()
    await client.send(client_frame(TEXT, b"a", is_final=False) + frame_head(0, 1_000) + b"x" * 10)
    client.writer.write_eof()
    await client.rest()


async def websocket_broken(client: RawClient) -> None:
    await client.send(HANDSHAKE % b"")
    await client.head()
    await client.send(client_frame(TEXT, b"\xff"))
    await client.rest()


async def websocket_with_early_frames(client: RawClient) -> None:
    await client.send(HANDSHAKE % b"" + client_frame(TEXT, b"early"))
    await client.rest()


async def websocket_refused(client: RawClient) -> None:
    await client.send((HANDSHAKE % b"").replace(b"Version: 13", b"Version: 12"))
    await client.rest()


def counts() -> tuple[int, int, int]:
    """Tasks, links and descriptors of this process."""
    gc.collect()
    kinds = (HandedOffWebSocket, HandedOffEventStream, AsgiWebSocket, AsgiEventStream)
    links = sum(type(thing) in kinds for thing in gc.get_objects())
    return len(asyncio.all_tasks()), links, len(os.listdir("/proc/self/fd"))


async def visit_many(port: int, visit: Visit, total: int) -> None:
    async def one() -> None:
        async with connected(port) as client:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the server may be the one who hung up
                await visit(client)

    for _ in range(total // AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one())


def probe_all(links: Iterable[OpenLink]) -> None:
    for link in links:
        link.probe()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("total", [pytest.param(1_000, marks=pytest.mark.slow), AT_ONCE])
@pytest.mark.parametrize(("kind", "has_front"), [("hand-off", True), ("hand-off", False), ("asgi", False)])
@pytest.mark.parametrize(
    "visit",
    [
        pipelined,
        pipelined_later,
        head_only,
        reset,
        half_closed,
        half_closed_at_once,
        aborted_before_the_answer,
        body_that_nobody_reads,
        websocket_reset,
        websocket_in_the_middle_of_a_frame,
        websocket_broken,
        websocket_with_early_frames,
        websocket_refused,
    ],
)
@on_each_loop
async def test_many_leave_nothing_behind(kind: Kind, has_front: bool, visit: Visit, total: int) -> None:
    opened = 0
    alive: weakref.WeakSet[OpenLink] = weakref.WeakSet()

    def count(link: OpenLink, owner: object) -> None:
        nonlocal opened
        opened += 1
        if kind == "asgi":  # what is handed off is small and has no weak references
            alive.add(link)

    app = LinkApp(kind, limits=Limits(close_timeout_s=0.2), on_open=count, keeps_opened=False)
    async with serving(app, streams_under=b"/" if has_front else None) as server:
        before = counts()
        await visit_many(server.port, visit, total)
        for _ in range(100):  # connections end in the turns of the loop after their sockets
            after = counts()
            if after == before:
                break
            probe_all(alive)  # Hypercorn does not see a client go while a pipelined request waits: heartbeats tell
            await asyncio.sleep(0.05)
        assert after == before
        assert before[1] == 0
        assert opened == 0 or opened >= total * 9 // 10, "too few got as far as they should"
