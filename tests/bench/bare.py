"""A POST that is answered by nothing but Hypercorn, in a process of its own: what the others are measured by.

Its first line of output is its port; the end of its input ends it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.limits import Limits
from hybrid.web import launcher


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, stop.set)
    await launcher.serve(
        application,
        host="127.0.0.1",
        port=0,
        limits=Limits(shutdown_grace_s=0.5),
        shutdown_event=stop,
        on_started=lambda port: print(port, flush=True),
    )


if __name__ == "__main__":
    launcher.run(main)
