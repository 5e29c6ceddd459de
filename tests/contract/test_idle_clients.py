"""What a client costs, kept by counts: the tasks that its connecting makes, and the objects that stay for it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests.support.asgi_server import HANDSHAKE, RawClient, client_frame, connected, true_soon
from tests.support.server import RunningServer, running_server, settings_for

CLIENTS = 20
ATTACH = b'{"method":"attach","attempt":1,"confirm":true,"subscriptions":[{"channel":"a"}]}'
SESSION = {"StreamLeg", "Session", "SessionRunner", "Feed", "Subscription"}


async def websocket(server: RunningServer, client: RawClient, token: str) -> None:
    request = HANDSHAKE.replace(b"/ws", b"/v1/stream").replace(b"Host: test", b"Host: 127.0.0.1")
    await client.send(request % f"Authorization: Bearer {token}\r\n".encode())
    await client.head()
    await client.send(client_frame(0x1, ATTACH))
    await client.reader.readuntil(b'"subscribed"')


async def session_stream(server: RunningServer, client: RawClient, token: str) -> None:
    head = (
        "POST /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(ATTACH)}\r\n\r\n"
    )
    await client.send(head.encode() + ATTACH)
    await client.reader.readuntil(b'"subscribed"')


async def plain_stream(server: RunningServer, client: RawClient, token: str) -> None:
    head = (
        f"GET /v1/channels/a HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}"
    )
    await client.send(head.encode() + b"\r\n\r\n")
    await client.reader.readuntil(b"\nid: ")


def instances() -> Counter[str]:
    """Live objects of hybrid's own classes, by name."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing).__module__.startswith("hybrid."))


@pytest.mark.parametrize(
    ("connect", "stays"),
    [
        (websocket, SESSION | {"HandedOffWebSocket"}),
        (session_stream, SESSION | {"HandedOffEventStream"}),
        (plain_stream, {"PlainStream", "Feed", "Subscription", "HandedOffEventStream"}),
    ],
)
async def test_a_connect_makes_two_tasks_and_an_idle_client_keeps_one_object_of_each_kind(
    connect: Callable[[RunningServer, RawClient, str], Awaitable[None]], stays: set[str]
) -> None:
    loop = asyncio.get_running_loop()
    made = Counter[str]()

    def factory(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        made[coroutine.__qualname__] += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    async with (
        running_server(replace(settings_for(), allowed_hosts=("127.0.0.1",))) as server,
        AsyncExitStack() as stack,
    ):
        tokens = [server.token(f"user-{number}") for number in range(CLIENTS)]
        async with connected(server.port) as first:
            await connect(server, first, tokens[0])  # makes what there is once for all
            before, tasks = instances(), len(asyncio.all_tasks())
            loop.set_task_factory(factory)
            for token in tokens:
                client = await stack.enter_async_context(connected(server.port))
                await connect(server, client, token)
            await true_soon(lambda: len(asyncio.all_tasks()) == tasks)
            loop.set_task_factory(None)
            grown = instances() - before
    assert {name: count for name, count in grown.items() if count >= CLIENTS // 2} == dict.fromkeys(stays, CLIENTS)
    made.pop("BaseSelectorEventLoop._accept_connection2", None)  # asyncio's own, which uvloop does without
    assert made["_Visitor.serve"] == CLIENTS
    assert sum(made.values()) == 2 * CLIENTS, made
