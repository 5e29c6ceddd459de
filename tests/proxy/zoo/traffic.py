"""What goes through the animals, and the two ends at the origin: who publishes there, and who reads there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import quote

import httpx2

from hybrid.client import Client, ReceivedPublication
from hybrid.model import Position
from hybrid.protocol.cursor import format_cursor
from tests.proxy.zoo.origin import Server
from tests.proxy.zoo.records import Asked, Got, Records, position_of
from tests.support.nodes import AUDIENCE

DOWN: Final = "zoo:down"
"""From the origin to the client."""
UP: Final = "zoo:up"
"""From the client to the origin."""
_RETRY_S: Final = 0.1
_PAGE_PUBLICATIONS: Final = 1_000


class Publisher:
    """Publishes at the origin, one after another, each until it is answered."""

    def __init__(self, server: Server, records: Records) -> None:
        self.every_s = 0.05
        self._server = server
        self._records = records
        self._http = httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=10.0)
        self._headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._hastened = asyncio.Event()
        self._made = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        async with self._http:
            due_s = time.monotonic()
            while True:
                await self._publish()
                # What was missed while the server was away is not made up for in one burst.
                due_s = max(due_s + self.every_s, time.monotonic() - self.every_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_s - time.monotonic()):
                        await self._hastened.wait()
                self._hastened.clear()
                await self._wanted.wait()

    def pace(self, every_s: float) -> None:
        """One every so many seconds, from now on."""
        self.every_s = every_s
        self._wanted.set()
        self._hastened.set()

    async def rest(self) -> None:
        """Begin nothing more; returns when all that was begun is answered."""
        self._wanted.clear()
        while not all(asked.answered for asked in self._records.down.asked):  # noqa: ASYNC110 -- nobody else waits
            await asyncio.sleep(_RETRY_S)

    async def _publish(self) -> None:
        id = f"down-{self._made}"
        self._made += 1
        asked = Asked(id, {"id": id}, time.time())
        self._records.down.asked.append(asked)
        headers = {**self._headers, "Idempotency-Key": id}
        url = f"/v1/channels/{quote(DOWN, safe='')}"
        while True:
            with suppress(httpx2.HTTPError):
                asked.sent_s = time.time()
                answer = await self._http.post(url, content=json.dumps(asked.data), headers=headers)
                if answer.is_success:
                    asked.answered = position_of(answer.json())
                    return
            await asyncio.sleep(_RETRY_S)


@asynccontextmanager
async def traffic(server: Server, records: Records) -> AsyncIterator[Publisher]:
    """Both ends at the origin, at work. What they do and see is recorded."""
    publisher = Publisher(server, records)
    async with Client(AUDIENCE, lambda: server.token, "websocket", dial=lambda _: ("127.0.0.1", server.node.port)) as c:
        subscription = await c.subscribe(UP)
        stream = records.up.stream("the reader at the origin", subscription.received)
        subscription.on_reset = stream.items.append

        async def read() -> None:
            async for publication in subscription:
                stream.items.append(_got(publication))

        tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(read())]
        try:
            yield publisher
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _got(publication: ReceivedPublication) -> Got:
    return Got(publication.position, publication.data, time.time())


async def read_log(server: Server, channel: str) -> list[tuple[Position, Any]]:
    """The whole log of a channel, as its history tells it."""
    headers = {"Authorization": f"Bearer {server.token}"}
    log: list[tuple[Position, Any]] = []
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False, headers=headers) as http:
        after = "0"
        while True:
            query = {"after": after, "limit": str(_PAGE_PUBLICATIONS)}
            answer = await http.get(f"/v1/history/{quote(channel, safe='')}", params=query)
            answer.raise_for_status()
            found = answer.json()["publications"]
            if not found:
                return log
            log += [(position_of(publication), publication["data"]) for publication in found]
            after = format_cursor(log[-1][0])
