"""What the development issuer gives out stands in no log of the whole server, all loggers at DEBUG.

Those of httpx2 are left out: it is the test's own client here, and says what it asked for.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from hybrid.settings import Settings
from tests.support.processes import free_port
from tests.unit.auth.development.asking import CHALLENGE, DEVICE, VERIFIER
from tests.web.test_js_client import serving


async def test_no_code_and_no_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    shown: list[str] = [VERIFIER]
    async with serving(Settings(development_issuer=True, port=port), port):
        # After the start, which pins Authlib's loggers: an operator who looks for a fault sets the rest.
        caplog.set_level(logging.DEBUG)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] != "authlib":
                caplog.set_level(logging.DEBUG, logger=name)
        async with httpx2.AsyncClient(base_url=root, trust_env=False) as client, asyncio.timeout(30):

            async def post(path: str, **form: str) -> Any:
                return (await client.post(f"/dev-issuer/{path}", data=form)).json()

            query = {
                "response_type": "code",
                "client_id": "demo",
                "redirect_uri": f"{root}/",
                "state": "StateThatMustNotBeSeen",
                "code_challenge": CHALLENGE,
                "code_challenge_method": "S256",
            }
            address = f"/dev-issuer/authorize?{urlencode(query)}"
            page = (await client.get(address)).text
            seal = re.search(r'name="seal" value="(\w+)"', page)
            assert seal is not None
            answer = await client.post(address, data={"seal": seal[1], "name": "ada", "decision": "allow"})
            code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
            await client.get(f"/?{urlsplit(answer.headers['Location']).query}")  # the page it comes back to
            shown += [seal[1], code, *client.cookies.values()]
            fields = {"client_id": "demo", "code": code, "redirect_uri": f"{root}/", "code_verifier": VERIFIER}
            tokens = await post("token", grant_type="authorization_code", **fields)
            shown += [tokens["access_token"][-40:], tokens["refresh_token"]]
            await client.get("/v1/history/a", headers={"Authorization": f"Bearer {tokens['access_token']}"})
            refreshed = await post(
                "token", grant_type="refresh_token", client_id="demo", refresh_token=tokens["refresh_token"]
            )
            shown += [refreshed["access_token"][-40:], refreshed["refresh_token"]]
            for token in (tokens["refresh_token"], code):  # replays
                await post("token", grant_type="refresh_token", client_id="demo", refresh_token=token)
                await post("token", grant_type="authorization_code", **{**fields, "code": token})
            device = await post("device_authorization", client_id="cli")
            shown += [device["device_code"], device["user_code"]]
            await post("token", grant_type=DEVICE, client_id="cli", device_code=device["device_code"])
            await client.get(f"/dev-issuer/device?user_code={device['user_code']}")
            await post("revoke", client_id="demo", token=refreshed["refresh_token"])
            await client.post(
                "/dev-issuer/introspect",
                data={"token": refreshed["access_token"]},
                auth=("resource-server", "development-only"),
            )
    records = [record for record in caplog.records if record.name.partition(".")[0] not in ("httpx2", "httpcore2")]
    everything = "".join(f"{each.getMessage()}{each.args!r}{each.msg!r}{each.exc_text!r}" for each in records)
    assert "came a second time" in everything  # so the log was really listening
    assert [text for text in shown if text in everything] == []
    assert all(len(text) >= 8 for text in shown)
