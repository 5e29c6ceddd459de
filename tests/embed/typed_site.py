"""An application as people write it who check their types strictly; `make types` reads it, nothing runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

from quart import Quart

from hybrid import Appended, ConnectedSession, Grant, Hybrid, HybridError, HybridMiddleware, Message, Principal
from hybrid.client import ReceivedPublication

app = Quart(__name__)
hybrid = Hybrid(app)


@hybrid.authorize
def everywhere(principal: Principal, action: str, channel: str) -> bool | None:
    return None


@hybrid.authorize("chat")
def chat(principal: Principal, action: str, channel: str) -> bool:
    return True


@hybrid.grants
async def grants(principal: Principal, claims: Mapping[str, Any]) -> list[Grant]:
    return []


@hybrid.signed_in
def signed_in(session: Mapping[str, Any]) -> Principal | None:
    return None


@hybrid.on_connect
async def came(session: ConnectedSession) -> None:
    assert_type(session.principal, Principal)


@hybrid.rpc
async def add(a: int, b: int = 1) -> int:
    return a + b


@hybrid.rpc("multiply", allow_anonymous=True)
async def times(a: int, b: int) -> int:
    return a * b


async def use() -> None:
    assert_type(chat(Principal(issuer="", subject=""), "subscribe", "chat:a"), bool)
    assert_type(await add(1), int)
    assert_type(await times(1, b=2), int)
    assert_type(await hybrid.publish("chat:a", 1), Appended)
    assert_type(await hybrid.publish_many([Message("chat:a", 1)]), list[Appended | HybridError])
    assert_type(await hybrid.history("chat:a"), list[ReceivedPublication])
    async for publication in hybrid.channel("chat:a").subscribe():
        assert_type(publication, ReceivedPublication)
    async with hybrid.test_client("alice", transport="sse") as client:
        await client.subscribe("chat:a")
    HybridMiddleware(None, hybrid, path="/live")
