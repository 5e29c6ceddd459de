"""`make bench-publish`: publishes of 128 bytes for each second of the node's CPU, by every way in, into both brokers.

Real `hybrid serve`, a real redis-server, real sockets. *Pipelined*: one command a frame, 64 in flight on one WebSocket;
*batched*: 64 commands a frame, or a `POST /v1/publish`; *one at a time*: each connection asks again when it was
answered. Exit status 1 when a publish is refused or not answered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.bench.asking import (
    HttpTalk,
    Served,
    SocketTalk,
    Talk,
    clients,
    frame,
    options,
    request,
    run,
    serving,
)

DATA: Final = "x" * 126
TOGETHER: Final = 64
_number: Final = itertools.count()


def commands(channel: str, has_keys: bool) -> list[bytes]:
    """So many publish commands."""
    fixed = {"method": "publish", "channel": channel, "data": DATA}
    keyed = [{"key": f"k{next(_number)}"} if has_keys else {} for _ in range(TOGETHER)]
    return [json.dumps({"id": 1 + place} | fixed | key).encode() for place, key in enumerate(keyed)]


def over_websocket(channel: str, *, is_batched: bool, has_keys: bool = False, count: int = 1) -> Any:
    def made(has_fresh: bool) -> bytes:
        lines = commands(channel, has_fresh)
        return frame(b"\n".join(lines)) if is_batched else b"".join(map(frame, lines))

    fixed = made(False)

    @contextmanager
    def work(served: Served) -> Iterator[Callable[[float], int]]:
        talks: list[Talk] = [
            SocketTalk(served.token(f"p{place}"), lambda: made(True) if has_keys else fixed, TOGETHER)
            for place in range(count)
        ]
        with clients(served.port, talks) as opened:
            yield opened.run

    return work


def over_http(channel: str, *, is_batched: bool, has_keys: bool = False, count: int) -> Any:
    def body() -> bytes:
        if not is_batched:
            return json.dumps(DATA).encode()
        item = {"channel": channel, "data": DATA}
        items = [item | ({"key": f"h{next(_number)}"} if has_keys else {}) for _ in range(TOGETHER)]
        return json.dumps({"publications": items}).encode()

    target = "/v1/publish" if is_batched else f"/v1/channels/{channel}"
    fixed = body()

    @contextmanager
    def work(served: Served) -> Iterator[Callable[[float], int]]:
        token = served.token()
        asked = request("POST", target, token, fixed)
        fresh = is_batched and has_keys
        talks = [
            HttpTalk(
                lambda _: request("POST", target, token, body()) if fresh else asked, TOGETHER if is_batched else 1
            )
            for _ in range(count)
        ]
        with clients(served.port, talks) as opened:
            yield opened.run

    return work


WORK: Final = {
    "WebSocket, pipelined": over_websocket("kept:p", is_batched=False, count=2),
    "WebSocket, batched": over_websocket("kept:p", is_batched=True, count=2),
    "WebSocket, batched, with keys": over_websocket("kept:p", is_batched=True, has_keys=True, count=2),
    "WebSocket, batched, history off": over_websocket("unkept:p", is_batched=True, count=2),
    "HTTP, one at a time, 1 connection": over_http("kept:p", is_batched=False, count=1),
    "HTTP, one at a time, 64 connections": over_http("kept:p", is_batched=False, count=64),
    "HTTP, batched": over_http("kept:p", is_batched=True, count=2),
    "HTTP, batched, with keys": over_http("kept:p", is_batched=True, has_keys=True, count=2),
}


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--broker", choices=["memory", "redis"], help="one of them only")
    chosen = parser.parse_args()
    for broker in ("memory", "redis"):
        if chosen.broker in (None, broker):
            async with serving(chosen, on_redis=broker == "redis") as servers:
                await run(chosen, servers, {f"{broker}: {name}": work for name, work in WORK.items()})


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
