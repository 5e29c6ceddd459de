"""Every credential on every way: exactly the documented answer, and the server neither logs nor returns the token."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.clock import SystemClock
from hybrid.settings import Namespace
from tests.security.credentials import CASES, OTHER_ISSUER, WAYS, applies, expected
from tests.support.configured import configured_server
from tests.support.server import AUDIENCE, RunningServer, settings_for
from tests.support.tokens import EC_KEY, ISSUER, OTHER_EC_KEY, RSA_KEY

CELLS = [(name, title) for name, way in WAYS.items() for title, case in CASES.items() if applies(case, way)]
STREAMS = [(name, title) for name, title in CELLS if name.startswith(("websocket", "sse"))]
"""What is held open, and so in two ways: by hand-off, and through ASGI."""
RUNS = [("hand-off", *cell) for cell in CELLS] + [("asgi", *cell) for cell in STREAMS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[dict[str, RunningServer]]:
    """One for all cells of a kind. Two issuers, whose keys share an id; nothing is open to anybody."""
    async with serving(handoff=True) as handoff, serving(handoff=False) as asgi:
        yield {"hand-off": handoff, "asgi": asgi}


@asynccontextmanager
async def serving(*, handoff: bool) -> AsyncIterator[RunningServer]:
    settings = settings_for(handoff=handoff, namespaces={"room": Namespace("room", presence=True)})
    verifier = JwtVerifier(
        [
            IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY, RSA_KEY])),
            IssuerConfig(OTHER_ISSUER, keys=StaticKeys([OTHER_EC_KEY])),
        ],
        AUDIENCE,
        SystemClock(),
        settings.limits,
    )
    async with configured_server(settings, verifier=verifier) as running:
        await running.engine.publish("room:1", "first")
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("link", "name", "title"), RUNS, ids=[": ".join(run) for run in RUNS])
async def test_cell(
    servers: dict[str, RunningServer], link: str, name: str, title: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, way, case = servers[link], WAYS[name], CASES[title]
    caplog.set_level(logging.DEBUG)
    credential = case.make()
    async with asyncio.timeout(30):
        seen = await way.show(server, credential)
    assert seen == expected(case, way)
    shown = [value.rpartition(" ")[2] for _, value in credential.headers]
    shown += [credential.token or "", credential.query.partition("=")[2]]
    said = caplog.text + repr(seen)
    for token in shown:
        assert not [part for part in token.split(".") if len(part) >= 24 and part[-24:] in said]


def test_the_matrix_has_no_holes_but_those_with_a_reason() -> None:
    left_out = [(way, case) for way in WAYS.values() for case in CASES.values() if not applies(case, way)]
    assert all(way.carries == "frame" and case.needs for way, case in left_out)
    assert len(CELLS) + len(left_out) == len(WAYS) * len(CASES)
    leads_to = Counter(CASES[title].leads_to for _, title in CELLS)
    print(f"{len(WAYS)} ways, {len(CASES)} cases, {len(CELLS)} cells, {len(RUNS)} runs: {dict(leads_to)}")
    assert min(leads_to[name] for name in ("ok", "small", "unauthorized", "token_expired")) >= len(WAYS)
