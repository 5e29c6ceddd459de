"""Tokens of an authorization server that was not written here, and what becomes of them in a whole server of ours.

oidc-provider is a certified implementation of OpenID Connect. Our server knows its URL and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from hybrid.auth.introspection import NEGATIVE_S, POSITIVE_S
from hybrid.auth.keys import COOL_DOWN_S, RETRY_S
from hybrid.client.client import Client
from hybrid.clock import SystemClock
from hybrid.limits import Limits
from hybrid.settings import Namespace
from tests.support.bytewise import (
    EVENTS,
    JSON,
    WEBSOCKET,
    Answer,
    call,
    connected,
    event_stream,
    request,
    text,
    until,
    websocket,
)
from tests.support.configured import configured_server, settings_of
from tests.support.foreign_issuer import (
    OPAQUE,
    RESOURCE_SERVER,
    SCOPE,
    SECRET,
    ForeignIssuer,
    Tokens,
    claims_of,
    foreign_issuer,
)
from tests.support.raw import RAW_LEGS, Door, Ended, RawLeg, attach_of
from tests.support.server import AUDIENCE, RunningServer
from tests.support.tokens import dpop_proof, tampered
from tests.support.world import PIPES, TIMING, Clock, Guests, Pipe

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRANSPORTS = list(RAW_LEGS)
CHANNEL = "room:1"
NAMESPACES = {"room": Namespace("room", presence=True), "default": Namespace("default")}
LIMITS = Limits(heartbeat_interval_s=3_000.0)
"""The clock jumps; a silence of so many seconds ends no leg."""
ALGORITHMS = ("ES256", "RS256", "PS256", "Ed25519", "EdDSA")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[ForeignIssuer]:
    """One for the tests that leave it as it is."""
    async with foreign_issuer() as running:
        yield running


@asynccontextmanager
async def serving(issuer: ForeignIssuer, clock: Clock | None = None) -> AsyncIterator[RunningServer]:
    """Our server, which takes this issuer's tokens."""
    settings = settings_of(issuer.settings(algorithms=ALGORITHMS), namespaces=NAMESPACES, limits=LIMITS)
    async with asyncio.timeout(40), configured_server(settings, clock=clock or SystemClock()) as server:
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def history(server: RunningServer, token: str) -> Answer:
    """The smallest question that needs a token."""
    return await call(server, "GET", "/v1/history/room:1", bearer(token))


@asynccontextmanager
async def attached(server: RunningServer, transport: str, token: str) -> AsyncIterator[RawLeg]:
    """A leg that reads CHANNEL. Raises Ended where it is not taken."""
    door = Door(("127.0.0.1", server.port), f"127.0.0.1:{server.port}", token)
    leg = RAW_LEGS[transport](door)
    try:
        await leg.open(attach_of(1, CHANNEL))
        await leg.next("subscribed")
        yield leg
    finally:
        leg.close()


# -- discovery and acceptance


async def test_keys_are_found_by_the_issuers_metadata(issuer: ForeignIssuer) -> None:
    before = await issuer.asked()
    async with serving(issuer) as server:
        token = await issuer.machine_token()
        for _ in range(3):
            assert (await history(server, token)).status == 200
        resource = (await call(server, "GET", "/.well-known/oauth-protected-resource")).json()
    asked = {path: count - before.get(path, 0) for path, count in (await issuer.asked()).items()}
    assert resource["authorization_servers"] == [issuer.url]
    assert resource["resource"] == AUDIENCE
    assert (asked["/.well-known/oauth-authorization-server"], asked["/jwks"]) == (1, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_each_algorithm_of_it_is_accepted(issuer: ForeignIssuer, algorithm: str) -> None:
    async with serving(issuer) as server:
        token = await issuer.machine_token(algorithm)
        claims = claims_of(token)
        assert (claims["iss"], claims["aud"], claims["sub"]) == (issuer.url, AUDIENCE, f"machine-{algorithm}")
        assert (await history(server, token)).status == 200


@pytest.mark.parametrize("pipe", PIPES, ids=str)
async def test_who_signed_in_by_pkce_subscribes_and_publishes(issuer: ForeignIssuer, pipe: Pipe) -> None:
    """Our own client, with the tokens of a page; presence shows that it is the subject who signed in."""
    async with serving(issuer) as server, AsyncExitStack() as stack:
        tokens = await issuer.sign_in("frida")
        guests = Guests(stack)
        client = Client(
            server.url, lambda: tokens["access_token"], pipe.transport, encoding=pipe.encoding, timing=TIMING
        )  # type: ignore[arg-type]
        await guests.opened(client)
        reader = await guests.read(client, CHANNEL)
        await client.publish(CHANNEL, {"from": "frida"})
        await reader.until(1)
        assert reader.data == [{"from": "frida"}]
        assert [entry.subject for entry in await client.presence(CHANNEL)] == ["frida"]


async def test_plain_channels_take_its_tokens_too(issuer: ForeignIssuer) -> None:
    async with serving(issuer) as server:
        token = (await issuer.sign_in())["access_token"]
        target = "/v1/channels/room:1"
        published = await call(server, "POST", target, {**JSON, **bearer(token)}, b"1")
        assert published.status == 200
        polled = await call(server, "GET", f"{target}?history=1", bearer(token))
        assert polled.json()["publications"][0]["data"] == 1
        async with event_stream(server, f"{target}?history=1", bearer(token)) as stream:
            while "data" not in (event := await stream.event()):
                pass
            assert event["data"] == "1"
        async with websocket(server, f"{target}?history=1") as socket:
            socket.send(text({"method": "auth", "token": token}))
            assert (await socket.push())["data"] == 1


async def test_its_scopes_are_what_is_granted(issuer: ForeignIssuer) -> None:
    async with serving(issuer) as server:
        narrow = (await issuer.sign_in(scope="hybrid:subscribe:room:*"))["access_token"]
        assert (await history(server, narrow)).status == 200
        for answer in (
            await call(server, "POST", "/v1/channels/room:1", {**JSON, **bearer(narrow)}, b"1"),
            await call(server, "GET", "/v1/history/other", bearer(narrow)),
        ):
            assert (answer.status, answer.name) == (403, "forbidden")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("way", [*TRANSPORTS, "request"])
async def test_tokens_for_others_and_id_tokens_are_refused(issuer: ForeignIssuer, way: str) -> None:
    async with serving(issuer) as server:
        elsewhere = await issuer.sign_in(resource="https://elsewhere.example")
        assert claims_of(elsewhere["access_token"])["aud"] == "https://elsewhere.example"
        for token in (elsewhere["access_token"], elsewhere["id_token"]):
            if way == "request":
                answer = await history(server, token)
                assert (answer.status, answer.name) == (401, "token_refused")
                assert 'error="invalid_token"' in answer.headers["www-authenticate"]
                continue
            with pytest.raises(Ended):
                async with attached(server, way, token):
                    pytest.fail("it was taken")
        assert (await history(server, (await issuer.sign_in())["access_token"])).status == 200


# -- in the connection


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_rotated_token_refreshes_the_live_connection(issuer: ForeignIssuer, transport: str) -> None:
    clock = Clock()
    async with serving(issuer, clock) as server:
        async with issuer.lifetime(90):
            tokens = await issuer.sign_in("alice", scope=f"{SCOPE} hybrid:subscribe:room:*")
        async with attached(server, transport, tokens["access_token"]) as leg:
            clock.advance(50)
            tokens = await issuer.refreshed(tokens)
            await refreshed(leg, tokens["access_token"])
            for _ in range(3):  # past the first token's life and its grace
                clock.advance(30)
                server.engine.wheel.advance(clock.monotonic_s())
                await hears(server, leg)
            fewer = await issuer.refreshed(tokens, scope="openid hybrid:subscribe:room:*")
            await refreshed(leg, fewer["access_token"])
            await hears(server, leg)
            reply = await leg.command(method="publish", channel=CHANNEL, data=1)
            assert reply["error"]["name"] == "forbidden"
            assert sum("attached" in push for push in leg.seen) == 1


async def test_a_refresh_with_somebody_elses_token_or_another_clients_is_the_end(issuer: ForeignIssuer) -> None:
    async with serving(issuer) as server:
        mine = (await issuer.sign_in("alice"))["access_token"]
        for other in (await issuer.sign_in("bob"), await issuer.sign_in("alice", client="other-spa")):
            async with attached(server, "websocket", mine) as leg:
                with pytest.raises(Ended) as ended:
                    await refreshed(leg, other["access_token"])
                assert ended.value.code == 4505


async def refreshed(leg: RawLeg, token: str) -> None:
    """Show another token, on whichever way the transport has for it."""
    leg.door = Door(leg.door.address, leg.door.host, token)
    if "sealed" in vars(leg):  # polls show their token each time
        return
    shown = {"token": token} if hasattr(leg, "send") else {}
    numbers = getattr(leg, "numbers", 0) + 1
    leg.numbers = numbers  # type: ignore[attr-defined]
    reply = await leg.command(method="refresh", n=numbers, **shown)
    assert "error" not in reply, reply
    assert reply["token_expires_in_s"] > 0


# -- rotation and outage, in mid-session


@asynccontextmanager
async def attached_by_all(server: RunningServer, issuer: ForeignIssuer) -> AsyncIterator[list[tuple[RawLeg, Tokens]]]:
    """A leg of each transport, with the tokens that it was opened with."""
    async with AsyncExitStack() as stack:
        legs = []
        for transport in TRANSPORTS:
            tokens = await issuer.sign_in(transport)
            legs.append((await stack.enter_async_context(attached(server, transport, tokens["access_token"])), tokens))
        yield legs
        for leg, _ in legs:
            await hears(server, leg)
            assert sum("attached" in push for push in leg.seen) == 1, "one session, from the beginning to the end"


async def hears(server: RunningServer, *legs: RawLeg) -> None:
    """What is published now arrives on the legs."""
    appended = await server.engine.publish(CHANNEL, "x")
    for leg in legs:
        while await leg.publications(1) != [appended.position.offset]:
            pass


async def test_new_keys_are_found_in_mid_session(issuer: ForeignIssuer) -> None:
    clock = Clock()
    async with serving(issuer, clock) as server, attached_by_all(server, issuer) as legs:
        first = await issuer.machine_token()
        kids = await issuer.rotate(keep=True)
        later = [await issuer.refreshed(tokens) for _, tokens in legs]
        fetched = (await issuer.asked())["/jwks"]
        # Within the cool-down nothing new is asked for: whoever makes up key ids may not make us ask.
        assert (await history(server, later[0]["access_token"])).status == 401
        assert (await issuer.asked())["/jwks"] == fetched
        clock.advance(COOL_DOWN_S)
        for (leg, _), tokens in zip(legs, later, strict=True):
            await refreshed(leg, tokens["access_token"])
            await hears(server, leg)
        assert (await issuer.asked())["/jwks"] == fetched + 1
        assert (await history(server, first)).status == 200, "the former keys are still published"
        # Now they are withdrawn: what they had vouched for ends with the next look at the keys.
        assert set(await issuer.rotate(keep=False)).isdisjoint(kids)
        last = [await issuer.refreshed(tokens) for tokens in later]
        clock.advance(COOL_DOWN_S)
        assert (await history(server, last[0]["access_token"])).status == 200
        answer = await history(server, first)
        assert (answer.status, answer.name) == (401, "token_refused")
        for (leg, _), tokens in zip(legs, last, strict=True):
            await refreshed(leg, tokens["access_token"])


async def test_an_outage_of_the_issuer_in_mid_session() -> None:
    """Known keys serve on, also for tokens not seen before; what cannot be known now is 503 and not 401."""
    clock = Clock()
    async with foreign_issuer() as issuer, serving(issuer, clock) as server:
        async with attached_by_all(server, issuer) as legs:
            later = [await issuer.refreshed(tokens) for _, tokens in legs]
            unseen = await issuer.machine_token()
            await issuer.rotate(keep=True)
            with_new_key = await issuer.machine_token()
            issuer.process.kill()
            clock.advance(COOL_DOWN_S)
            for (leg, _), tokens in zip(legs, later, strict=True):
                await hears(server, leg)
                await refreshed(leg, tokens["access_token"])
            assert (await history(server, unseen)).status == 200
            await unavailable(server, with_new_key)
            for leg, _ in legs:
                await hears(server, leg)
            await issuer.start()
            clock.advance(COOL_DOWN_S)
            for leg, _ in legs:
                (name,) = (name for name, kind in RAW_LEGS.items() if type(leg) is kind)
                await refreshed(leg, (await issuer.sign_in(name))["access_token"])


async def test_a_server_that_starts_during_an_outage_says_503_until_the_issuer_is_back() -> None:
    clock = Clock()
    async with foreign_issuer() as issuer:
        token = await issuer.machine_token()
        issuer.process.kill()
        async with serving(issuer, clock) as server:
            await unavailable(server, token)
            await issuer.start()
            clock.advance(RETRY_S)
            fresh = await issuer.machine_token()
            assert (await history(server, fresh)).status == 200
            for transport in TRANSPORTS:
                async with attached(server, transport, fresh) as leg:
                    await hears(server, leg)


async def unavailable(server: RunningServer, token: str) -> None:
    """On every way in: come back, it is not the token's fault."""
    attach = json.dumps({"method": "attach", **attach_of(1, CHANNEL)}).encode()
    for method, target, headers, body in (
        ("GET", "/v1/history/room:1", {}, b""),
        ("POST", "/v1/channels/room:1", JSON, b"1"),
        ("POST", "/v1/stream", {**JSON, **EVENTS}, attach),
        ("POST", "/v1/stream", JSON, attach),
        ("POST", "/v1/ticket", JSON, b"{}"),
        ("GET", "/v1/channels/room:1", EVENTS, b""),
    ):
        async with connected(server) as connection:
            connection.send(request(method, target, {**headers, **bearer(token)}, body))
            answer = await connection.answer()
        assert (answer.status, answer.name) == (503, "keys_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "www-authenticate" not in answer.headers
    async with websocket(server, "/v1/stream") as socket:
        socket.send(text({"method": "auth", "token": token}))
        assert (await socket.close_code())[0] == 3504


# -- opaque tokens, which it is asked about (RFC 7662)


async def test_what_it_gives_besides_jwts_is_what_the_tests_think(issuer: ForeignIssuer) -> None:
    """An opaque token, its introspection and its revocation; a token that is bound to a key."""
    tokens: Tokens = await issuer.sign_in("alice", resource=OPAQUE)
    assert "." not in tokens["access_token"]
    told = await issuer.introspected(tokens["access_token"])
    assert (told["active"], told["sub"], told["aud"], told["client_id"]) == (True, "alice", AUDIENCE, "spa")
    assert await issuer.introspected(tokens["access_token"], "stranger") == {"active": False}
    await issuer.revoke(tokens["access_token"])
    assert await issuer.introspected(tokens["access_token"]) == {"active": False}
    key = ECKey.generate_key("P-256")
    bound = await issuer.sign_in("alice", key=key)
    assert bound["token_type"] == "DPoP"
    assert claims_of(bound["access_token"])["cnf"] == {"jkt": key.thumbprint()}


async def test_opaque_tokens_are_refused_where_nobody_is_to_be_asked(issuer: ForeignIssuer) -> None:
    async with serving(issuer) as server:
        answer = await history(server, (await issuer.sign_in(resource=OPAQUE))["access_token"])
        assert (answer.status, answer.name) == (401, "token_refused")


@asynccontextmanager
async def asking(
    issuer: ForeignIssuer, clock: Clock | None = None, *, limits: Limits = LIMITS, **options: str
) -> AsyncIterator[RunningServer]:
    """Our server, which asks this issuer about tokens that are no JWTs."""
    ours = {"client_id": RESOURCE_SERVER, "client_secret": SECRET, **options}
    settings = settings_of(issuer.settings(algorithms=ALGORITHMS, **ours), namespaces=NAMESPACES, limits=limits)
    async with asyncio.timeout(40), configured_server(settings, clock=clock or SystemClock()) as server:
        yield server


class Questions:
    """How many questions the issuer was asked since the last look."""

    def __init__(self, issuer: ForeignIssuer) -> None:
        self._issuer = issuer
        self._before = 0

    async def since(self) -> int:
        count = (await self._issuer.asked()).get("/token/introspection", 0)
        asked, self._before = count - self._before, count
        return asked


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_opaque_token_opens_each_transport_and_refreshes_it(issuer: ForeignIssuer, transport: str) -> None:
    questions = Questions(issuer)
    async with asking(issuer) as server:
        tokens = await issuer.sign_in("alice", resource=OPAQUE)
        await questions.since()
        async with attached(server, transport, tokens["access_token"]) as leg:
            await hears(server, leg)
            reply = await leg.command(method="publish", channel=CHANNEL, data=1)
            assert "error" not in reply
            assert await questions.since() == 1
            (entry,) = (await leg.command(method="presence", channel=CHANNEL))["entries"]
            assert entry == {"subject": "alice", "client": "spa"}
            tokens = await issuer.refreshed(tokens)
            assert "." not in tokens["access_token"]
            await refreshed(leg, tokens["access_token"])
            await hears(server, leg)
            assert await questions.since() == 1
            # From an opaque one to a JWT and back: the issuer, the subject and the client are the same.
            await refreshed(leg, (await issuer.sign_in("alice"))["access_token"])
            await refreshed(leg, tokens["access_token"])
            await hears(server, leg)
            assert sum("attached" in push for push in leg.seen) == 1


async def test_many_who_show_one_opaque_token_are_one_question(issuer: ForeignIssuer) -> None:
    clock, questions = Clock(), Questions(issuer)
    async with asking(issuer, clock) as server:
        token = await issuer.machine_token(resource=OPAQUE)
        unknown = "never-given-to-anybody"
        await questions.since()
        answers = await asyncio.gather(*(history(server, token) for _ in range(40)))
        assert [answer.status for answer in answers] == [200] * 40
        assert await questions.since() == 1
        answers = await asyncio.gather(*(history(server, unknown) for _ in range(40)))
        answers.append(await history(server, unknown))
        assert {(answer.status, answer.name) for answer in answers} == {(401, "token_refused")}
        assert await questions.since() == 1
        clock.advance(NEGATIVE_S)
        assert (await history(server, unknown)).status == 401
        assert (await history(server, token)).status == 200
        assert await questions.since() == 1, "a yes counts longer than a no"
        clock.advance(POSITIVE_S)
        assert (await history(server, token)).status == 200
        assert await questions.since() == 1


async def test_jwts_are_not_shown_to_whoever_is_asked_about_other_tokens(issuer: ForeignIssuer) -> None:
    questions = Questions(issuer)
    async with asking(issuer) as server:
        good = await issuer.machine_token()
        await questions.since()
        assert (await history(server, good)).status == 200
        assert (await history(server, tampered(good))).status == 401
        assert (await history(server, "a.b.c")).status == 401
        assert await questions.since() == 0


async def test_a_revoked_opaque_token_is_refused_when_its_yes_is_over(issuer: ForeignIssuer) -> None:
    clock = Clock()
    async with asking(issuer, clock) as server:
        tokens = await issuer.sign_in(resource=OPAQUE)
        token = tokens["access_token"]
        assert (await history(server, token)).status == 200
        await issuer.revoke(token)
        clock.advance(POSITIVE_S)
        answer = await history(server, token)
        assert (answer.status, answer.name) == (401, "token_refused")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@asynccontextmanager
async def all_end(server: RunningServer, token: str, code: int) -> AsyncIterator[None]:
    """Open a session on each transport and a plain channel on both kinds of streams, all with one token, a poll
    waiting; what happens in the block has to end all of them with this code."""
    target = "/v1/channels/room%3A1"
    async with AsyncExitStack() as stack:
        legs = [await stack.enter_async_context(attached(server, name, token)) for name in TRANSPORTS]
        events = await stack.enter_async_context(event_stream(server, target, bearer(token)))
        socket = await stack.enter_async_context(websocket(server, target, bearer(token)))
        ends = [asyncio.create_task(leg.next("disconnect")) for leg in legs]
        await until(lambda: server.engine.hub.stats().polls_waiting == 1)
        yield
        for end in ends:
            assert (await end)["disconnect"]["code"] == code
        assert (await events.rest())[-1][0].startswith(f": {code} ")
        assert (await socket.close_code())[0] == code


async def test_what_is_revoked_at_the_issuer_ends_in_mid_session(issuer: ForeignIssuer) -> None:
    """Live opaque tokens are asked about again: those of the revoked sign-in end, those of another one go on."""
    limits = replace(LIMITS, recheck_interval_s=0.5)
    async with asking(issuer, limits=limits) as server:
        mine, other = [await issuer.sign_in(name, resource=OPAQUE) for name in ("alice", "bob")]
        async with attached(server, "websocket", other["access_token"]) as leg:
            async with all_end(server, mine["access_token"], 4503):
                await issuer.revoke(mine["access_token"])
            await hears(server, leg)
        answer = await history(server, mine["access_token"])
        assert (answer.status, answer.name) == (401, "token_refused"), "though a yes was remembered"
        assert (await history(server, other["access_token"])).status == 200


@pytest.mark.parametrize("resource", [AUDIENCE, OPAQUE], ids=["jwt", "opaque"])
async def test_what_is_revoked_here_ends_at_once_whatever_the_issuer_says(issuer: ForeignIssuer, resource: str) -> None:
    """A JWT cannot be called back by its issuer; `POST /v1/revoke` with a token of the same issuer can."""
    async with asking(issuer) as server:
        tokens = await issuer.sign_in("alice", resource=resource)
        token = tokens["access_token"]
        ticket_body = json.dumps({"purpose": "channels", "channels": [CHANNEL]}).encode()
        answer = await call(server, "POST", "/v1/ticket", {**bearer(token), **JSON}, ticket_body)
        ticket = answer.json()["ticket"]
        body = json.dumps({"subject": "alice"}).encode()
        may_not = await call(server, "POST", "/v1/revoke", {**bearer(token), **JSON}, body)
        assert (may_not.status, may_not.name) == (403, "forbidden")
        async with all_end(server, token, 4503):
            admin = {**bearer(await issuer.machine_token(scope="hybrid:revoke")), **JSON}
            done = await call(server, "POST", "/v1/revoke", admin, body)
            assert done.status == 200, done
            assert done.json()["ended_here"] >= len(TRANSPORTS)
        for refused_again in (
            await history(server, token),
            await call(server, "GET", f"/v1/channels/room%3A1?ticket={ticket}", EVENTS),
        ):
            assert (refused_again.status, refused_again.name) == (401, "token_refused")
        if resource == OPAQUE:
            assert (await issuer.introspected(token))["active"] is True, "the issuer knows nothing of it"


async def test_opaque_tokens_for_others_are_refused(issuer: ForeignIssuer) -> None:
    """The issuer says that it is active, and for whom: not for us."""
    async with asking(issuer) as server:
        token = (await issuer.sign_in(resource="https://elsewhere.example/opaque"))["access_token"]
        assert (await issuer.introspected(token))["active"] is True
        answer = await history(server, token)
        assert (answer.status, answer.name) == (401, "token_refused")
        refresh = (await issuer.sign_in(resource=OPAQUE))["refresh_token"]
        assert (await issuer.introspected(refresh))["active"] is True
        answer = await history(server, refresh)
        assert (answer.status, answer.name) == (401, "token_refused"), "a refresh token is no access token"


async def test_whoever_may_not_ask_says_503_and_not_401(issuer: ForeignIssuer) -> None:
    token = await issuer.machine_token(resource=OPAQUE)
    async with asking(issuer, client_secret="not the secret of anybody") as server:
        await unavailable(server, token)
        assert (await history(server, await issuer.machine_token())).status == 200


async def test_an_outage_while_opaque_tokens_are_in_use() -> None:
    clock = Clock()
    async with foreign_issuer() as issuer, asking(issuer, clock) as server:
        known, unseen = [(await issuer.sign_in(resource=OPAQUE))["access_token"] for _ in range(2)]
        async with AsyncExitStack() as stack:
            legs = [await stack.enter_async_context(attached(server, name, known)) for name in TRANSPORTS]
            issuer.process.kill()
            assert (await history(server, known)).status == 200
            await unavailable(server, unseen)
            await hears(server, *legs)
            clock.advance(POSITIVE_S)
            await unavailable(server, known)
            await hears(server, *legs[:2])  # what is open lives on; a poll shows its token each time
            await issuer.start()
            fresh = (await issuer.sign_in(resource=OPAQUE))["access_token"]
            assert (await history(server, fresh)).status == 200


# -- tokens that are bound to a key (RFC 9449)


@pytest.mark.parametrize("resource", [AUDIENCE, OPAQUE], ids=["jwt", "opaque"])
async def test_a_bound_token_is_good_with_a_proof_and_each_proof_once(issuer: ForeignIssuer, resource: str) -> None:
    key, stranger = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    async with asking(issuer) as server:
        token = (await issuer.sign_in("alice", resource=resource, key=key))["access_token"]
        for base in (server.url, AUDIENCE):  # as whom the client knows it
            for method, path, headers, body in GATES:
                proof = dpop_proof(key, method, base + path.partition("?")[0], token)
                assert await status(server, method, path, headers, body, token, proof) in (101, 200, 201)
                assert await status(server, method, path, headers, body, token, proof) == 401, "used up"
        method, path, headers, body = GATES[0]
        url = server.url + path
        for proof in (
            dpop_proof(stranger, method, url, token),
            dpop_proof(key, "POST", url, token),
            dpop_proof(key, method, server.url + "/v1/history/room%3A2", token),
            dpop_proof(key, method, "https://elsewhere.example/v1/history/room%3A1", token),
            dpop_proof(key, method, url, await issuer.machine_token()),
            dpop_proof(key, method, url),
            dpop_proof(key, method, url, token, iat=1),
            "",
            "x.y.z",
        ):
            answer = await call(server, method, path, {**proven(server, token, proof), **headers}, body)
            assert answer.status == 401, proof
            assert answer.headers["www-authenticate"].startswith("DPoP "), "answered in the scheme that was used"


async def test_a_bound_token_is_never_a_plain_bearer_and_an_unbound_one_never_bound(issuer: ForeignIssuer) -> None:
    key = ECKey.generate_key("P-256")
    async with asking(issuer) as server:
        bound = (await issuer.sign_in("alice", key=key))["access_token"]
        opaque = (await issuer.sign_in("alice", key=key, resource=OPAQUE))["access_token"]
        unbound = (await issuer.sign_in("alice"))["access_token"]
        method, path, _, _ = GATES[0]
        for token in (bound, opaque):
            proof = dpop_proof(key, method, server.url + path, token)
            for headers in (bearer(token), {**bearer(token), "DPoP": proof}):
                answer = await call(server, method, path, headers)
                assert (answer.status, answer.name) == (401, "token_refused")
            # No frame can prove anything.
            async with websocket(server, "/v1/stream") as socket:
                socket.send(text({"method": "auth", "token": token}))
                assert (await socket.close_code())[0] == 4501
        proof = dpop_proof(key, method, server.url + path, unbound)
        assert (await call(server, method, path, proven(server, unbound, proof))).status == 401
        assert (await call(server, method, path, bearer(unbound))).status == 200


async def test_a_ticket_for_a_bound_token_opens_what_has_no_headers(issuer: ForeignIssuer) -> None:
    key = ECKey.generate_key("P-256")
    async with asking(issuer) as server:
        token = (await issuer.sign_in("alice", key=key))["access_token"]
        proof = dpop_proof(key, "POST", f"{server.url}/v1/ticket", token)
        body = json.dumps({"purpose": "channels", "channels": [CHANNEL]}).encode()
        answer = await call(server, "POST", "/v1/ticket", {**proven(server, token, proof), **JSON}, body)
        ticket = answer.json()["ticket"]
        async with event_stream(server, f"/v1/channels/room%3A1?ticket={ticket}", {}) as stream:
            await stream.event()
            await server.engine.publish(CHANNEL, "bound")
            assert (await stream.event())["data"] == '"bound"'


async def test_a_refresh_of_a_bound_session_needs_a_proof_too(issuer: ForeignIssuer) -> None:
    key = ECKey.generate_key("P-256")
    async with asking(issuer) as server:
        tokens = await issuer.sign_in("alice", key=key)
        proof = dpop_proof(key, "POST", f"{server.url}/v1/stream", tokens["access_token"])
        headers = {**proven(server, tokens["access_token"], proof), **JSON}
        async with event_stream(server, "/v1/stream", headers, method="POST", body=ATTACH) as stream:
            session = json.loads((await stream.event())["data"])["attached"]["session"]
            newer = (await issuer.refreshed(tokens, key=key))["access_token"]
            command = {"session": session, "commands": [{"method": "refresh", "id": 1, "n": 1}]}
            body = json.dumps(command).encode()
            answer = await call(server, "POST", "/v1/command", {**bearer(newer), **JSON}, body)
            assert answer.status == 401
            proof = dpop_proof(key, "POST", f"{server.url}/v1/command", newer)
            answer = await call(server, "POST", "/v1/command", {**proven(server, newer, proof), **JSON}, body)
            assert answer.json()["replies"][0]["token_expires_in_s"] > 0


ATTACH = json.dumps({"method": "attach", **attach_of(1, CHANNEL)}).encode()
Gate = tuple[str, str, dict[str, str], bytes]
GATES: list[Gate] = [
    ("GET", "/v1/history/room%3A1", {}, b""),
    ("GET", "/v1/presence/room%3A1", {}, b""),
    ("POST", "/v1/channels/room%3A1", JSON, b"1"),
    ("GET", "/v1/channels/room%3A1?history=1", {}, b""),
    ("GET", "/v1/channels/room%3A1?history=1", EVENTS, b""),
    ("GET", "/v1/channels/room%3A1?history=1", WEBSOCKET, b""),
    ("POST", "/v1/stream", {**JSON, **EVENTS}, ATTACH),
    ("POST", "/v1/stream", JSON, ATTACH),
    ("GET", "/v1/stream", WEBSOCKET, b""),
    ("POST", "/v1/command", JSON, b'{"commands": []}'),
    ("POST", "/v1/publish", JSON, b'{"publications": []}'),
    ("POST", "/v1/ticket", JSON, b'{"purpose": "channels", "channels": ["room:1"]}'),
]
"""Where a header can be set."""


def proven(server: RunningServer, token: str, proof: str) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{server.port}", "Authorization": f"DPoP {token}", "DPoP": proof}


async def status(
    server: RunningServer, method: str, path: str, headers: dict[str, str], body: bytes, token: str, proof: str
) -> int:
    """What a request with a proof is answered with; the connection is closed behind it."""
    async with connected(server) as connection:
        connection.send(request(method, path, {**headers, **proven(server, token, proof)}, body))
        return (await connection.head()).status
