"""The course that readers of plain channels run which were not written here (`outsiders`).

Each reads one channel over a wire that is cut, from a server that is restarted, and from one whose log is gone. What it
gives has to be all publications in order, each once, and a reset at the end.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from hybrid.engine import plain
from hybrid.limits import Limits
from hybrid.settings import Namespace
from tests.support.processes import free_port
from tests.support.redis_servers import redis_server
from tests.support.server import SECRET, RunningServer, new_issuer, running_server, settings_for
from tests.support.wire import Wire

CHANNEL: Final = "outside:all"
STAGES: Final = ("all in order, Unicode and bytes", "a cut", "a restart", "a reset is told")
PATIENCE_S: Final = 15.0
_RETRY_MS: Final = 50

Seen = tuple[str, Any, str]
"""Type, data as JSON says it, id."""
Following = Callable[[str, str], AbstractAsyncContextManager[Callable[[], Awaitable[Seen]]]]
"""From the URL of the channel and a token: gives what reads the next event."""


@dataclass(frozen=True)
class Outsider:
    """A reader. `comes_back`: "itself", or "program" where the few lines around the library have to."""

    name: str
    version: Callable[[], str]
    follow: Following
    comes_back: str
    remark: str = ""


# -- the course


async def run(outsider: Outsider, passed: list[str] | None = None) -> None:
    """Raises AssertionError where something was lost, repeated, reordered, mangled or not told.

    `passed` gets the STAGES that were.
    """
    passed = [] if passed is None else passed
    async with redis_server() as redis, Wire(0) as wire:
        port = wire.port_of_server = free_port()
        settings = replace(
            settings_for(
                limits=Limits(reconnect_delay_max_ms=_RETRY_MS),
                namespaces={"outside": Namespace("outside", subscribe="anyone")},
            ),
            broker=redis.url,
            secret=SECRET,
            key_prefix=f"t{secrets.token_hex(4)}",
            allowed_origins=(f"http://127.0.0.1:{wire.address[1]}",),
        )
        url = f"http://127.0.0.1:{wire.address[1]}/v1/channels/{CHANNEL}?after=0"
        issuer = new_issuer()
        seen: list[Seen] = []
        told: list[tuple[str, Any]] = []

        async def publish(server: RunningServer, data: Any, type: str = "message") -> None:
            await server.engine.publish(CHANNEL, data, type=None if type == "message" else type)
            told.append((type, {"base64": "AP8="} if isinstance(data, bytes) else data))

        async with asyncio.timeout(3 * PATIENCE_S):
            async with running_server(settings, port=port, issuer=issuer) as server:
                await publish(server, {"text": "eins\nzwei\u2028drei \U0001f600"})
                await publish(server, b"\x00\xff")
                await publish(server, None, type="note")
                async with outsider.follow(url, server.token()) as following:

                    async def until_all() -> None:
                        while len(seen) < len(told):
                            try:
                                async with asyncio.timeout(PATIENCE_S):
                                    seen.append(await following())
                            except TimeoutError:
                                raise AssertionError(f"only {seen} of {told}") from None
                        assert [(kind, data) for kind, data, _ in seen] == told

                    await until_all()
                    for number in range(20):
                        await publish(server, number)
                    await until_all()
                    passed.append(STAGES[0])
                    assert wire.cut("/v1/channels/") == 1
                    for number in range(2):
                        await publish(server, f"after the cut {number}")
                    await until_all()
                    passed.append(STAGES[1])
                    await server.shut_down()
                    async with running_server(settings, port=port, issuer=issuer) as server:
                        await publish(server, "after the restart")
                        await until_all()
                        await publish(server, "and on")
                        await until_all()
                        assert [int(id.split("-")[1]) for _, _, id in seen] == list(range(1, len(told) + 1))
                        passed.append(STAGES[2])
                        await server.shut_down()
                    elsewhere = replace(settings, key_prefix=f"t{secrets.token_hex(4)}")
                    async with running_server(elsewhere, port=port, issuer=issuer) as server:
                        await server.engine.publish(CHANNEL, "never seen")
                        kind, data, id = await following()
                        assert (kind, data) == ("hybrid.reset", {"channel": CHANNEL, "cursor": id})
                        await server.engine.publish(CHANNEL, "a new log")
                        assert (await following())[:2] == ("message", "a new log")
                        passed.append(STAGES[3])


@contextmanager
def impatience() -> Iterator[None]:
    """The servers ask for a shorter wait than their 3 s meanwhile: the course has three ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "RETRY_MS", _RETRY_MS)
        yield
