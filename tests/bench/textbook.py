"""The server that hybrid is measured against: what one writes after reading the documentation of Quart.

A queue for each client, an awaited `websocket.send` or a yield from a generator for each message, and a bearer token
that is checked once and then remembered. It is meant to be good: every message is encoded once for all clients, nothing
is logged, nothing runs in debug mode, and there is no task besides the one that Quart gives each client anyway.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from quart import Quart, Response, abort, make_response, request, websocket

SUBSCRIBED = {"subscribed": True}


class Channels:
    """Numbers what is published and puts it into the queue of everybody who listens."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)
        self._offsets: defaultdict[str, int] = defaultdict(int)

    def publish(self, channel: str, data: Any) -> int:
        self._offsets[channel] += 1
        offset = self._offsets[channel]
        message = json.dumps({"channel": channel, "offset": offset, "data": data})
        for queue in self._queues[channel]:
            queue.put_nowait(message)
        return offset

    def enter(self, channel: str) -> asyncio.Queue[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues[channel].add(queue)
        return queue

    def leave(self, channel: str, queue: asyncio.Queue[str]) -> None:
        self._queues[channel].discard(queue)


class Tokens:
    """Checks a token's signature and claims at its first use, and remembers whose it is until it expires."""

    def __init__(self, keys: KeySet, issuer: str, audience: str) -> None:
        self._keys = keys
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._known: dict[str, tuple[str, int]] = {}

    def subject(self, authorization: str | None) -> str | None:
        """Whose token it is; None for one that is not accepted."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer":
            return None
        known = self._known.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        try:
            claims = jwt.decode(token, self._keys, algorithms=["ES256"]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError):
            return None
        self._known[token] = (claims["sub"], claims["exp"])
        return str(claims["sub"])


def create_app(jwks: dict[str, Any], issuer: str, audience: str) -> Quart:
    app = Quart(__name__)
    channels = Channels()
    tokens = Tokens(KeySet.import_key_set(jwks), issuer, audience)  # type: ignore[arg-type]

    @app.websocket("/ws/<channel>")
    async def subscribe(channel: str) -> None:
        if tokens.subject(websocket.headers.get("Authorization")) is None:
            abort(401)
        queue = channels.enter(channel)
        try:
            await websocket.send(json.dumps(SUBSCRIBED))
            while True:
                await websocket.send(await queue.get())
        finally:
            channels.leave(channel, queue)

    @app.get("/sse/<channel>")
    async def stream(channel: str) -> Any:
        if tokens.subject(request.headers.get("Authorization")) is None:
            abort(401)
        response = await make_response(
            events(channel),
            {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Transfer-Encoding": "chunked"},
        )
        assert isinstance(response, Response)
        response.timeout = None
        return response

    async def events(channel: str) -> AsyncIterator[bytes]:
        queue = channels.enter(channel)
        try:
            yield event(json.dumps(SUBSCRIBED))
            while True:
                yield event(await queue.get())
        finally:
            channels.leave(channel, queue)

    @app.post("/publish/<channel>")
    async def publish(channel: str) -> dict[str, int]:
        if tokens.subject(request.headers.get("Authorization")) is None:
            abort(401)
        return {"offset": channels.publish(channel, await request.get_json())}

    return app


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
