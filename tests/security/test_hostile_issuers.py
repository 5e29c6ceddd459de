"""An issuer that turns against us, asked by a whole server: at its metadata, its keys, and where it is asked of tokens.

Whatever it answers is "not now" (503), is bounded in time and size, leads nowhere else, and disturbs nobody who comes
with another issuer's token.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.auth.fetch import DOCUMENT_MAX_BYTES, JsonFetcher
from hybrid.auth.keys import COOL_DOWN_S, RETRY_S, import_jwks
from hybrid.settings import IssuerSettings
from tests.support.acting_issuer import METADATA, Issuer, issuing
from tests.support.answering import (
    Answer,
    bomb,
    cut_short,
    document,
    dripping,
    endless,
    fixed,
    garbage,
    serving,
    silent,
)
from tests.support.bytewise import Answer as HttpAnswer
from tests.support.bytewise import bystander, call, text, until, websocket
from tests.support.configured import configured_server, settings_of
from tests.support.server import AUDIENCE, RunningServer
from tests.support.tokens import EC_KEY, OKP_KEY, OTHER_EC_KEY, RSA_KEY, public
from tests.support.world import Clock

KEYS = public(EC_KEY)


@asynccontextmanager
async def served(hostile: Issuer, good: Issuer, clock: Clock | None = None) -> AsyncIterator[RunningServer]:
    """Our server; it takes the tokens of both, and asks the hostile one about those that are no JWTs."""
    settings = settings_of(
        IssuerSettings(url=hostile.url, client_id="hybrid", client_secret="s3cret-of-ours"),
        IssuerSettings(url=good.url),
    )
    async with asyncio.timeout(30), configured_server(settings, clock=clock) as server:
        yield server


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole exchange may take half a second instead of five."""
    defaults = JsonFetcher.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout_s", 0.5)


async def history(server: RunningServer, token: str) -> HttpAnswer:
    return await call(server, "GET", "/v1/history/a", {"Authorization": f"Bearer {token}"})


def padded(value: dict[str, Any], size: int) -> bytes:
    raw = json.dumps(value)
    return (raw[:-1] + f', "x": "{"x" * (size - len(raw) - 8)}"}}').encode()


ATTACKS: dict[str, Answer] = {
    "endless": endless,
    "dripping": dripping,
    "silent": silent,
    "garbage": garbage,
    "cut short": cut_short,
    "gzip bomb": bomb(json.dumps(KEYS).encode()),
    "100,000 deep": fixed(b'{"issuer":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "100,000 objects deep": fixed(b'{"keys":' + b'{"a":' * 50_000),
    "300 KB": fixed(padded(KEYS, 300_000)),
    "a page": fixed(b"<html><body>Sign in</body></html>", "content-type: text/html"),
    "a list": document([KEYS]),
    "text": document("keys"),
    "not UTF-8": fixed(b'{"keys": "\xff\xfe"}'),
    "nothing": fixed(b""),
    "an error": fixed(json.dumps(KEYS).encode(), status="500 Internal Server Error"),
    "no content": fixed(b"", status="204 No Content"),
    "an integer of 100,000 digits": fixed(b'{"keys": ' + b"1" * 100_000 + b"}"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_whatever_it_answers_is_not_now_and_disturbs_nobody(attack: str) -> None:
    async with attacked(ATTACKS[attack]) as (server, tokens, good):
        for token in tokens:
            answer = await history(server, token)
            assert (answer.status, answer.name) == (503, "keys_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert "www-authenticate" not in answer.headers, "it is not the token's fault"
            assert (await history(server, good.token())).status == 200
        assert (await call(server, "GET", "/healthz")).status == 200


@asynccontextmanager
async def attacked(answer: Answer) -> AsyncIterator[tuple[RunningServer, list[str], Issuer]]:
    """A server with four issuers: three answer so, each at another place, and the fourth is good. And the tokens that
    lead to these places."""
    async with issuing() as at_metadata, issuing() as at_keys, issuing() as when_asked, issuing(OTHER_EC_KEY) as good:
        at_metadata.answers[METADATA] = at_keys.answers["/keys"] = when_asked.answers["/ask"] = answer
        settings = settings_of(
            *(IssuerSettings(url=issuer.url) for issuer in (at_metadata, at_keys, good)),
            IssuerSettings(url=when_asked.url, client_id="hybrid", client_secret="s3cret-of-ours"),
        )
        async with asyncio.timeout(30), configured_server(settings) as server:
            yield server, [at_metadata.token(), at_keys.token(), "opaque"], good
            assert at_metadata.asked
            assert "/keys" in at_keys.asked
            assert "/ask" in when_asked.asked


async def test_while_it_keeps_us_waiting_others_are_served() -> None:
    """Slow answers at all three places at once, and somebody else's requests in between."""
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        clock = Clock()
        async with served(hostile, good, clock) as server:
            assert (await history(server, hostile.token())).status == 200
            hostile.answers |= {"/keys": silent, "/ask": dripping, METADATA: silent}
            clock.advance(COOL_DOWN_S)
            waiting = [
                asyncio.create_task(history(server, token))
                for token in [hostile.token(kid=f"made up {n}") for n in range(20)] + [f"opaque-{n}" for n in range(20)]
            ]
            for _ in range(3):
                assert (await history(server, good.token())).status == 200
                assert (await history(server, hostile.token())).status == 200, "with the keys that are known"
            assert not any(task.done() for task in waiting), "so the others were served meanwhile"
            answers = await asyncio.gather(*waiting)
            assert {(answer.status, answer.name) for answer in answers} == {(503, "keys_unavailable")}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_leads_nowhere_and_takes_no_secret_along(status: str) -> None:
    async with serving(document(KEYS)) as elsewhere:
        async with attacked(fixed(b"", f"location: {elsewhere.url}", status=status)) as (server, tokens, good):
            for token in tokens:
                assert (await history(server, token)).status == 503
            assert (await history(server, good.token())).status == 200
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://elsewhere.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://localhost/keys"},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": ["https://elsewhere.example"]},
        {"jwks_uri": "https://127.0.0.1:1/"},
        {"jwks_uri": ""},
    ],
    ids=str,
)
async def test_metadata_that_leads_astray_is_not_followed(changes: dict[str, Any]) -> None:
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers[METADATA] = document(hostile.metadata(**changes))
        async with served(hostile, good) as server:
            answer = await history(server, hostile.token())
            assert (answer.status, answer.name) == (503, "keys_unavailable")
            assert (await history(server, good.token())).status == 200
        assert METADATA in hostile.asked
        assert set(hostile.asked) <= {METADATA, "/.well-known/openid-configuration"}


async def test_metadata_of_another_issuer_lends_nobody_its_keys() -> None:
    """The good issuer's own metadata, served by the hostile one: its tokens are signed by keys that are not its own."""
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers[METADATA] = document(good.metadata())
        async with served(hostile, good) as server:
            assert (await history(server, hostile.token())).status == 503
            assert (await history(server, good.token())).status == 200


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"keys": []}, 503),
        ({"keys": None}, 503),
        ({}, 503),
        ({"keys": [{"kty": "oct", "kid": "ec", "k": "AAAA"}]}, 503),
        ({"keys": [EC_KEY.as_dict(private=True)]}, 503),
        ({"keys": [{**KEYS["keys"][0], "use": "enc"}]}, 503),
        (public(OTHER_EC_KEY), 401),
        (public(RSA_KEY, OKP_KEY), 401),
        ({"keys": [{**OTHER_EC_KEY.as_dict(private=False)}] * 63 + KEYS["keys"]}, 200),
        ({"keys": [{"kty": "x"}] * 15_000 + KEYS["keys"]}, 200),
        ({"keys": [None, 5, [], "x", *KEYS["keys"]]}, 200),
    ],
    ids=[
        "none",
        "null",
        "absent",
        "symmetric",
        "private",
        "for encryption",
        "another of the same name",
        "of other kinds",
        "behind 63 others",
        "behind 15000 unknown",
        "among nonsense",
    ],
)
async def test_key_sets_that_are_odd(keys: dict[str, Any], expected: int) -> None:
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers["/keys"] = document(keys)
        async with served(hostile, good) as server:
            assert (await history(server, hostile.token())).status == expected
            assert (await history(server, good.token())).status == 200


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-521", "x": "A" * 88, "y": "A" * 88},
        {"kty": "OKP", "crv": "Ed25519", "x": "_" * 43},
        {"kty": "RSA", "n": "_" * 342, "e": "AQAB"},
        {"kty": "RSA", "n": "_" * 1_366, "e": "AQAB"},
        {"kty": "RSA", "n": "_" * 20_000, "e": "_" * 20_000},
        {"kty": "x"},
        EC_KEY.as_dict(private=False),
        RSA_KEY.as_dict(private=False),
    ],
    ids=lambda member: f"{member['kty']} {len(str(member))}",
)
def test_the_fullest_key_set_is_read_in_a_moment(member: dict[str, Any]) -> None:
    """Keys are imported on the event loop: a set of whatever fits into the bound must not hold it up."""
    raw = json.dumps(member)
    keys = {"keys": [member] * (DOCUMENT_MAX_BYTES // len(raw))}
    start_s = time.process_time()
    import_jwks(keys)
    assert time.process_time() - start_s < 0.5


@pytest.mark.parametrize(
    "said", [{}, {"active": "true"}, {"active": 1}, {"active": None}, {"active": [True]}, {"Active": True}]
)
async def test_only_true_is_active(said: dict[str, Any]) -> None:
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers["/ask"] = document({"aud": AUDIENCE, "sub": "alice", "scope": "hybrid:subscribe:*", **said})
        async with served(hostile, good) as server:
            answer = await history(server, "opaque")
            assert (answer.status, answer.name) == (401, "token_refused")
            assert (await history(server, good.token())).status == 200


async def test_a_flood_of_unknown_key_ids_is_one_question_in_a_cool_down() -> None:
    clock = Clock()
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        async with served(hostile, good, clock) as server:
            assert (await history(server, hostile.token())).status == 200
            asked = len(hostile.asked)
            for round_number in (1, 2):
                if round_number == 2:
                    clock.advance(COOL_DOWN_S)
                for batch in range(5):  # as many at once as one address may have in the doorway
                    made_up = [hostile.token(kid=f"made up {round_number} {batch} {n}") for n in range(30)]
                    answers = await asyncio.gather(*(history(server, token) for token in made_up))
                    assert {(answer.status, answer.name) for answer in answers} == {(401, "token_refused")}
                # The metadata and the keys, once, and only when the cool-down was over.
                assert len(hostile.asked) - asked == (0 if round_number == 1 else 2)
                assert (await history(server, hostile.token())).status == 200
                assert (await history(server, good.token())).status == 200
        assert not [path for path in good.asked if path not in (METADATA, "/keys")]


async def test_a_flood_while_it_cannot_be_reached_is_one_try_in_a_pause() -> None:
    clock = Clock()
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers.clear()
        async with served(hostile, good, clock) as server:
            tried = len(hostile.asked)
            for round_number in range(3):
                answers = await asyncio.gather(*(history(server, hostile.token(jti=f"{n}")) for n in range(50)))
                assert {answer.status for answer in answers} == {503}
                assert len(hostile.asked) == tried + 2 * round_number  # both places of its metadata
                clock.advance(RETRY_S)


async def test_a_stream_goes_on_while_its_neighbours_issuer_attacks() -> None:
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good, served(hostile, good) as server:
        headers = {"Authorization": f"Bearer {good.token()}"}
        server.bearer = lambda *_, **__: headers  # type: ignore[method-assign]
        async with bystander(server) as other:
            hostile.answers |= {"/ask": endless}
            await asyncio.gather(*(history(server, f"opaque-{n}") for n in range(5)))
            await other.still_hears()


async def test_who_cannot_be_checked_now_is_told_when_to_come_back_in_a_frame_too() -> None:
    """The answer of HTTP had its Retry-After; the socket's last push said to come back at once, everybody together."""
    async with issuing() as hostile, issuing(OTHER_EC_KEY) as good:
        hostile.answers.clear()
        async with served(hostile, good) as server, websocket(server, "/v1/stream") as socket:
            socket.send(text({"method": "auth", "token": hostile.token()}))
            told = (await socket.push())["disconnect"]
            assert (told["code"], told["delay_ms"]) == (3504, RETRY_S * 1000)
            assert "reconnect" not in told, "left out where it is true"
            assert (await socket.close_code())[0] == 3504


async def test_one_address_with_made_up_opaque_tokens_does_not_take_all_questions() -> None:
    """The issuer is slow, and somebody asks about as many tokens as one address may show at once: others come in."""
    async with issuing() as slow, issuing(OTHER_EC_KEY) as good:
        released = asyncio.Event()
        yes = document({"active": True, "aud": AUDIENCE, "sub": "alice", "scope": "hybrid:subscribe:*"})

        async def answer(writer: asyncio.StreamWriter) -> None:
            if b"made-up" in slow.requests[-1]:
                await released.wait()
            await yes(writer)

        slow.answers["/ask"] = answer
        settings = settings_of(
            IssuerSettings(url=slow.url, client_id="hybrid", client_secret="s3cret-of-ours"),
            IssuerSettings(url=good.url),
        )
        settings = replace(settings, trusted_proxies=("127.0.0.1",))
        async with asyncio.timeout(30), configured_server(settings) as server:

            async def ask(token: str, address: str) -> int:
                headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
                return (await call(server, "GET", "/v1/history/a", headers)).status

            count = settings.limits.unauthenticated_per_address_max
            flood = [asyncio.create_task(ask(f"made-up-{n}", "203.0.113.1")) for n in range(count)]
            try:
                await until(lambda: slow.asked.count("/ask") == count)
                assert await ask("honest", "203.0.113.2") == 200
            finally:
                released.set()
                await asyncio.gather(*flood)
