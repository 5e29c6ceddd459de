"""What the development issuer ends before its time ends at the server it is part of, in the live connection too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from hybrid.settings import Settings
from hybrid.web.issuer import ISSUER_PATH
from tests.support.bytewise import call, text, websocket
from tests.support.configured import configured_server
from tests.support.processes import free_port
from tests.support.server import RunningServer

ATTACH = {"method": "attach", "attempt": 1, "nonce": "n", "confirm": True, "subscriptions": []}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    port = free_port()
    settings = Settings(port=port, development_issuer=True, allowed_hosts=("127.0.0.1", f"127.0.0.1:{port}"))
    async with configured_server(settings) as running:
        yield running


async def post(server: RunningServer, path: str, **form: str) -> bytes:
    answer = await call(server, "POST", ISSUER_PATH + path, FORM, urlencode(form).encode())
    assert answer.status == 200, answer
    return answer.body


async def test_a_revoked_access_token_ends_its_session_and_opens_none(server: RunningServer) -> None:
    answer = json.loads(await post(server, "/token", grant_type="client_credentials", client_id="cli", subject="ada"))
    token = answer["access_token"]
    other = json.loads(await post(server, "/token", grant_type="client_credentials", client_id="cli", subject="bob"))
    bearer = {"Authorization": f"Bearer {token}"}
    async with (
        websocket(server, "/v1/stream", bearer) as socket,
        websocket(server, "/v1/stream", {"Authorization": f"Bearer {other['access_token']}"}) as bobs,
    ):
        for each in (socket, bobs):
            each.send(text(ATTACH))
            assert "attached" in await each.push()
        await post(server, "/revoke", client_id="cli", token=token)
        assert (await socket.close_code())[0] == 4503
        refused = await call(server, "GET", "/v1/history/a", bearer)
        assert (refused.status, refused.name) == (401, "token_refused")
        bobs.send(text({"method": "history", "id": 1, "channel": "a"}))
        while "reply" not in (push := await bobs.push()):
            pass
        assert "error" not in push["reply"]
