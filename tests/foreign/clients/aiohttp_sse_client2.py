"""aiohttp-sse-client2: it comes back after an end by itself; after a cut the program has it connect again."""

import asyncio
import json
import os
from datetime import timedelta

import aiohttp
from aiohttp_sse_client2.client import EventSource


async def main() -> None:
    source = EventSource(
        os.environ["URL"],
        headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},
        reconnection_time=timedelta(seconds=0.02),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=30),
    )
    while True:
        try:
            await source.connect()
            async for event in source:
                print(json.dumps([event.type or "message", event.data, event.last_event_id]), flush=True)
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(0.05)


asyncio.run(main())
