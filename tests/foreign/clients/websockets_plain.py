"""websockets: a plain WebSocket, which has no ids; the cursor is put together from what came."""

import asyncio
import json
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


async def main() -> None:
    base, _, query = os.environ["URL"].replace("http://", "ws://").partition("?")
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    while True:
        try:
            async with connect(f"{base}?{query}", additional_headers=headers, proxy=None) as socket:
                async for frame in socket:
                    told = json.loads(frame)
                    place = told.get("reset", told)
                    cursor = f"{place['epoch']}-{place['offset']}-{place['tag']}"
                    query = f"after={cursor}"
                    if "reset" in told:
                        kind, data = "hybrid.reset", json.dumps({"channel": told["channel"], "cursor": cursor})
                    else:
                        kind, data = told.get("type", "message"), json.dumps(told["data"])
                    print(json.dumps([kind, data, cursor]), flush=True)
        except (OSError, ConnectionClosed, InvalidHandshake):
            pass
        await asyncio.sleep(0.05)


asyncio.run(main())
