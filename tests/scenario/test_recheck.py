"""Sessions of tokens that their issuer was asked about: what it says when it is asked again holds in the session."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from hybrid.auth.verifier import TokenVerifier
from hybrid.model import Grant, Principal
from tests.support.bytewise import event_stream
from tests.support.raw import attach_of
from tests.support.world import LIMITS, World, settings, until, world

CHANNEL = "chat:lobby"
SECRET = "secret:plans"
NARROW = (Grant("subscribe", "chat:*"),)
REVOKED = 4503
FORBIDDEN = 3403


class Opaque:
    """An issuer that is asked: a `TokenVerifier` around another one, and a `Rechecker`. Tests change its mind."""

    def __init__(self, inner: TokenVerifier) -> None:
        self.grants: tuple[Grant, ...] | None = None
        self.is_active = True
        self._inner = inner
        self._live: dict[bytes, Principal] = {}

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        found = self._inner.cached(token)
        return None if found is None else self._now(found)

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        return self._now(await self._inner.verify(token))

    async def recheck(self, token_hash: bytes) -> Principal | None:
        return self._now(self._live[token_hash]) if self.is_active else None

    def keep(self, token_hashes: set[bytes]) -> None:
        assert token_hashes <= self._live.keys()

    async def close(self) -> None:
        await self._inner.close()

    def _now(self, principal: Principal) -> Principal:
        self._live[principal.token_hash] = principal
        grants = principal.grants if self.grants is None else self.grants
        return msgspec.structs.replace(principal, grants=grants, is_introspected=True)


def asked(here: World) -> Opaque:
    """Have every token of this world asked about, again and again."""
    [engine] = [here.server.engine]
    issuer = Opaque(engine.verifier._inner)
    engine.verifier._inner = issuer
    engine.recheck._rechecker = issuer
    engine.recheck.start()
    return issuer


def often(handoff: bool) -> Any:
    return settings(handoff, limits=replace(LIMITS, recheck_interval_s=0.5))


pytestmark = pytest.mark.one_node("it looks into the node")


async def test_rights_that_are_gone_end_their_channels(transport: str, handoff: bool) -> None:
    async with world(often(handoff)) as here:
        issuer = asked(here)
        leg = await here.raw(transport, attach_of(1, CHANNEL, SECRET))
        await leg.next("subscribed")
        issuer.grants = NARROW
        if transport == "longpoll":
            told = (await leg.next("subscribed"))["subscribed"]["channels"]
            assert [item["channel"] for item in told if item.get("error") == FORBIDDEN] == [SECRET]
        else:
            told = (await leg.next("unsubscribed"))["unsubscribed"]
            assert told == {"channel": SECRET, "error": FORBIDDEN}
        await here.publish(SECRET, "unseen")
        await here.publish(CHANNEL, "seen")
        assert (await leg.next("publication"))["publication"]["data"] == "seen"


async def test_a_token_that_is_not_active_any_more_ends_its_session(transport: str, handoff: bool) -> None:
    async with world(often(handoff)) as here:
        issuer = asked(here)
        leg = await here.raw(transport, attach_of(1, CHANNEL))
        await leg.next("subscribed")
        waiting = asyncio.create_task(leg.next("disconnect"))
        await here.publish(CHANNEL, 1)
        issuer.is_active = False
        assert (await waiting)["disconnect"]["code"] == REVOKED
        await until(lambda: len(here.server.engine.registry) == 0)


async def test_a_plain_stream_is_of_all_its_channels_or_none(handoff: bool) -> None:
    async with world(often(handoff)) as here:
        issuer = asked(here)
        shown = here.server.bearer()
        async with (
            event_stream(here.server, f"/v1/channels?name={CHANNEL}&name={SECRET}", shown) as both,
            event_stream(here.server, f"/v1/channels?name={CHANNEL}", shown) as one,
        ):
            issuer.grants = NARROW
            assert any(block[0].startswith(f": {FORBIDDEN} forbidden") for block in await both.rest())
            await here.publish(CHANNEL, "seen")
            while "data" not in (event := await one.event()):
                pass
            assert event["data"] == '"seen"'
            issuer.is_active = False
            assert any(block[0].startswith(f": {REVOKED} ") for block in await one.rest())


async def test_a_token_that_lives_longer_now_lets_its_session_live_longer(handoff: bool) -> None:
    """Also the other way round; and what has not changed warns nobody again."""
    async with world(often(handoff)) as here:
        issuer = asked(here)
        leg = await here.raw("websocket", attach_of(1, CHANNEL))
        await leg.next("subscribed")
        [runner] = here.server.engine.registry.runners()
        before_s = runner.session.expires_in_s(here.server.engine.clock.monotonic_s())
        assert before_s is not None
        [held] = set(runner.principals())
        issuer._live[held.token_hash] = msgspec.structs.replace(held, expires_at_s=held.expires_at_s + 500)
        await until(
            lambda: (runner.session.expires_in_s(here.server.engine.clock.monotonic_s()) or 0.0) > before_s + 400
        )
        issuer._live[held.token_hash] = msgspec.structs.replace(held, expires_at_s=held.expires_at_s - 2_000)
        assert (await leg.next("disconnect"))["disconnect"]["code"] == 4401
