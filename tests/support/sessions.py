"""Sessions on WebSockets written byte by byte: attach, ask, hear, and say goodbye, in any order a test likes."""

from __future__ import annotations

import json
from typing import Any

from tests.support.bytewise import JSON, Answer, Connection, call, frame, text
from tests.support.server import RunningServer

STREAM = "/v1/stream"


def attach(*channels: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An attach that confirms itself, unless `fields` says otherwise."""
    named = [{"channel": channel} if isinstance(channel, str) else channel for channel in channels]
    return {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": named, **fields}


async def heard(socket: Connection, name: str) -> Any:
    """What the next push of this name says; others before it are passed over."""
    while name not in (push := await socket.push()):
        pass
    return push[name]


async def attached(socket: Connection, *channels: str | dict[str, Any], **fields: Any) -> str:
    """Attach, and return the session when all channels are joined; a candidate's when it is one."""
    command = attach(*channels, **fields)
    socket.send(text(command))
    session: str = (await heard(socket, "attached"))["session"]
    if command["confirm"]:
        await heard(socket, "subscribed")
    return session


async def asked(socket: Connection, command: dict[str, Any]) -> dict[str, Any]:
    """Send a command and return the next reply."""
    socket.send(text(command))
    reply: dict[str, Any] = await heard(socket, "reply")
    return reply


def say_goodbye(socket: Connection) -> None:
    """Close in form (1000), as a client does that wants its leg no more."""
    socket.send(frame((1000).to_bytes(2, "big"), 8))


async def post(
    server: RunningServer, target: str, body: Any, headers: dict[str, str] | None = None, **options: Any
) -> Answer:
    """Post some JSON; as alice unless `headers` say who."""
    shown = server.bearer() if headers is None else headers
    return await call(server, "POST", target, {**JSON, **shown}, json.dumps(body).encode(), **options)
