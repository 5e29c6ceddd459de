"""The backend is asked about each token that is shown, whatever it is shown for, and may give it rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.client.client import Client
from hybrid.errors import HybridError, SettingsError
from hybrid.hooks.breaker import REST_MAX_S
from hybrid.model import Position
from hybrid.settings import HooksSettings, IssuerSettings, Namespace, Settings
from hybrid.web.app import create_app
from tests.support.configured import configured_server, settings_of
from tests.support.http_issuer import http_issuer, jwks_url
from tests.support.receiver import SECRET, Receiver, Request, receiver, status
from tests.support.server import AUDIENCE, RunningServer, new_issuer, running_server
from tests.support.world import Clock

Place = tuple[RunningServer, Receiver, DevelopmentIssuer, Clock]


def settings_at(here: Receiver, issuer: DevelopmentIssuer) -> Settings:
    settings = settings_of(IssuerSettings(issuer.issuer, jwks_url=jwks_url(issuer)))
    hooks = HooksSettings(url=here.url, secrets=(SECRET,), connect=True)
    return replace(settings, hooks=hooks, namespaces={"default": Namespace("default")})


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    clock = Clock()
    with http_issuer(AUDIENCE) as issuer:
        async with receiver() as here, configured_server(settings_at(here, issuer), clock=clock) as server:
            yield server, here, issuer, clock


async def publish(server: RunningServer, token: str, channel: str = "news") -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as http:
        url, headers = f"{server.url}/v1/channels/{channel}", {"Authorization": f"Bearer {token}"}
        return await http.post(url, content=b"1", headers={**headers, "Content-Type": "application/json"})


async def test_the_backend_gives_rights_once_for_each_token() -> None:
    async with place() as (server, here, issuer, _):
        here.answer = lambda request: {"allow": True, "grants": {"publish": ["news"], "subscribe": ["new*"]}}
        token = issuer.mint("alice", "hybrid:publish:other")
        assert [(await publish(server, token, name)).status_code for name in ("news", "other", "news")] == [
            200,
            403,
            200,
        ]
        [asked] = here.of("connect")
        assert asked["principal"]["subject"] == "alice"
        assert asked["principal"]["expires_at"] == asked["claims"]["exp"]
        assert asked["claims"]["scope"] == "hybrid:publish:other"
        async with Client(server.url, lambda: token, "websocket") as client:
            await client.subscribe("news")
            with pytest.raises(HybridError, match="may not do that"):
                await client.subscribe("other")
        assert len(here.asked) == 1
        assert token not in str(here.requests[0].headers) + str(here.requests[0].body)


async def test_without_grants_the_token_s_own_stay() -> None:
    async with place() as (server, here, issuer, _):
        token = issuer.mint("alice", "hybrid:publish:news")
        assert [(await publish(server, token, name)).status_code for name in ("news", "other")] == [200, 403]
        assert len(here.asked) == 1


async def test_whom_it_denies_stays_away_and_is_told_why() -> None:
    async with place() as (server, here, issuer, clock):
        here.answer = lambda request: {"allow": False, "reason": "banned\nuntil May", "cache_s": 60}
        token = issuer.mint("alice", FULL_SCOPE)
        answer = await publish(server, token)
        assert answer.status_code == 403
        assert (answer.json()["number"], answer.json()["detail"]) == (4503, "banned until May")
        with pytest.raises(HybridError) as caught:
            async with Client(server.url, lambda: token, "websocket") as client:
                await client.connected()
        assert caught.value.row.name == "forbidden_or_revoked"
        assert len(here.asked) == 1, "for as long as it said"
        here.answer = lambda request: {"allow": True}
        clock.advance(60)
        assert (await publish(server, token)).status_code == 200


async def test_a_backend_that_is_away_denies_for_now_only() -> None:
    async with place() as (server, here, issuer, clock):
        await here.stop()
        token = issuer.mint("alice", FULL_SCOPE)
        answer = await publish(server, token)
        assert answer.status_code == 503
        assert answer.json()["name"] == "keys_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        async with Client(server.url, lambda: token, "websocket") as client:
            waiting = asyncio.create_task(client.connected())
            await asyncio.sleep(0)
            await here.start()
            clock.advance(REST_MAX_S)
            await waiting
        assert (await publish(server, token)).status_code == 200


async def test_rights_that_cannot_be_read_are_none() -> None:
    async with place() as (server, here, issuer, _):
        for grants in ({"publish": ["a*b"]}, {"publish": [""]}, {"write": ["news"]}, {"publish": ["x"] * 257}):
            here.answer = lambda request, grants=grants: {"allow": True, "grants": grants}  # type: ignore[misc]
            assert (await publish(server, issuer.mint("alice", FULL_SCOPE))).status_code in (500, 503)
        here.answer = lambda request: status(500)
        assert (await publish(server, issuer.mint("alice", FULL_SCOPE))).status_code == 503


async def test_rights_end_when_it_says_so_and_a_fresh_token_is_asked_about() -> None:
    async with place() as (server, here, issuer, clock):
        here.answer = lambda request: {"allow": True, "expires_in_s": 60}
        token = issuer.mint("alice", FULL_SCOPE)
        assert (await publish(server, token)).status_code == 200
        clock.advance(61)
        here.answer = lambda request: {"allow": False, "reason": "over"}
        assert (await publish(server, token)).json()["detail"] == "over"
        here.answer = lambda request: {"allow": True, "expires_in_s": 1e9}
        assert (await publish(server, issuer.mint("alice", FULL_SCOPE))).status_code == 200


async def test_those_who_show_one_token_together_are_one_question() -> None:
    gate = asyncio.Event()

    async def wait(request: Request) -> Any:
        await gate.wait()
        return {"allow": True}

    async with place() as (server, here, issuer, _):
        here.answer = wait
        token = issuer.mint("alice", FULL_SCOPE)
        publishing = [asyncio.create_task(publish(server, token)) for _ in range(5)]
        await here.until(lambda: len(here.asked) == 1)
        gate.set()
        assert [(await published).status_code for published in publishing] == [200] * 5
        assert len(here.asked) == 1


async def test_a_verifier_of_one_s_own_cannot_be_asked_for() -> None:
    async with receiver() as here:
        settings = replace(settings_of(), hooks=HooksSettings(url=here.url, secrets=(SECRET,), connect=True))
        with pytest.raises(SettingsError, match="verifier"):
            async with running_server(settings, issuer=new_issuer()):
                pass
        assert create_app(replace(settings, hooks=HooksSettings()))


async def test_it_names_channels_that_sessions_begin_with() -> None:
    async with place() as (server, here, issuer, _):
        told: dict[str, Position] = {}
        heard = asyncio.Event()

        def on_subscribe(channel: str, position: Position) -> None:
            told[channel] = position
            heard.set()

        here.answer = lambda request: {"allow": True, "grants": {"publish": ["news"]}, "channels": ["news"]}
        token = issuer.mint("alice", FULL_SCOPE)
        async with Client(server.url, lambda: token, "websocket", on_subscribe=on_subscribe) as client:
            await heard.wait()
            subscription = await client.subscribe("news", told["news"])
            await client.publish("news", 1)
            assert (await anext(aiter(subscription))).data == 1
            with pytest.raises(HybridError, match="may not do that"):
                await client.subscribe("other")
        for channels in (["a*"], [""], ["x"] * 257, "news"):
            here.answer = lambda request, channels=channels: {"allow": True, "channels": channels}  # type: ignore[misc]
            assert (await publish(server, issuer.mint("alice", FULL_SCOPE))).status_code in (500, 503)
