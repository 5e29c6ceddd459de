"""An opaque token that is shown at one node for a session at another: that one cannot ask its issuer again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from hybrid.auth.introspection import UNSEEN_MAX_S
from hybrid.settings import IssuerSettings
from tests.support.acting_issuer import issuing
from tests.support.answering import document
from tests.support.bytewise import JSON, call, event_stream
from tests.support.configured import configured_server, settings_of
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.server import AUDIENCE, SECRET

ATTACH = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


async def test_a_session_lives_no_longer_by_it_than_a_ticket_would_let_it(redis: RedisServer) -> None:
    async with issuing() as issuer:
        # Without an end of its own it would live for ever.
        issuer.answers["/ask"] = document({"active": True, "aud": AUDIENCE, "sub": "alice", "client_id": "app"})
        settings = settings_of(IssuerSettings(url=issuer.url, client_id="hybrid", client_secret="secret-of-ours"))
        settings = replace(settings, broker=redis.url, secret=SECRET)
        async with asyncio.timeout(30), configured_server(settings) as here, configured_server(settings) as there:
            bearer = {"Authorization": "Bearer opaque-1", **JSON}
            body = json.dumps(ATTACH).encode()
            async with event_stream(there, "/v1/stream", bearer, method="POST", body=body) as stream:
                attached = json.loads((await stream.event())["data"])["attached"]
                assert "token_expires_in_s" not in attached, "it was shown here, and can be asked about again"
                refresh = {"method": "refresh", "id": 1, "n": 1}
                post = json.dumps({"session": attached["session"], "commands": [refresh]}).encode()
                shown = {"Authorization": "Bearer opaque-2", **JSON}
                answer = await call(here, "POST", "/v1/command", shown, post)
                [reply] = answer.json()["replies"]
                assert UNSEEN_MAX_S - 10 < reply["token_expires_in_s"] <= UNSEEN_MAX_S
                [runner] = there.engine.registry.runners()
                left_s = runner.session.principal.expires_at_s - there.engine.clock.wall_s()
                assert UNSEEN_MAX_S - 10 < left_s <= UNSEEN_MAX_S
