"""A python-socketio server for the bench, in an environment of its own: `python uvicorn_socketio.py`.

The first line of its input is what it needs to know (JSON), the first of its output says where it listens. `gc` on a
line collects garbage; the end of its input ends it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import time
from typing import Any

import jwt  # type: ignore[import-not-found, unused-ignore]
import socketio  # type: ignore[import-not-found, unused-ignore]
import uvicorn  # type: ignore[import-not-found, unused-ignore]


class Tokens:
    """Verifies a token at its first use, and remembers whose it is until it expires."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._known: dict[str, tuple[str, int]] = {}

    def subject(self, token: str) -> str | None:
        known = self._known.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        order = self._order
        try:
            claims = jwt.decode(token, order["secret"], ["HS256"], issuer=order["issuer"], audience=order["audience"])
        except jwt.InvalidTokenError:
            return None
        self._known[token] = (claims["sub"], claims["exp"])
        return str(claims["sub"])


def create_app(order: dict[str, Any]) -> Any:
    tokens = Tokens(order)
    sio = socketio.AsyncServer(async_mode="asgi", ping_interval=order["heartbeat_s"])

    @sio.event  # type: ignore[untyped-decorator, unused-ignore]
    async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str] | None) -> None:
        if tokens.subject((auth or {}).get("token", "")) is None:
            raise socketio.exceptions.ConnectionRefusedError("unauthorized")
        await sio.enter_room(sid, order["room"])

    async def publish(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if tokens.subject(token) is None:
            return await answer(send, 401)
        body, goes_on = b"", True
        while goes_on:
            part = await receive()
            body += part.get("body", b"")
            goes_on = part.get("more_body", False)
        await sio.emit("message", json.loads(body), room=order["room"])
        await answer(send, 200)

    return socketio.ASGIApp(sio, publish)


async def answer(send: Any, status: int) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def obey() -> None:
    """Do what the input says from now on."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = os.read(0, 4_096)
        if not line:
            os._exit(0)  # its clients are of no interest any more
        elif line.strip() == b"gc":
            gc.collect()
            print("done", flush=True)

    loop.add_reader(0, read)


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    config = uvicorn.Config(
        create_app(order),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # Engine.IO has its own
    )
    obey()
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    print(json.dumps({"port": listener.getsockname()[1], "loop": loop}), flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop  # type: ignore[import-not-found, unused-ignore]

    uvloop.run(main())
