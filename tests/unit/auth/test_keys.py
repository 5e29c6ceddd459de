from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import OctKey, RSAKey

from hybrid.auth.discovery import find_endpoint
from hybrid.auth.fetch import FetchError
from hybrid.auth.keys import (
    COOL_DOWN_S,
    FRESH_S,
    KEY_ID_MAX_CHARACTERS,
    KEYS_MAX,
    RETRY_S,
    STALE_S,
    KeyStore,
    StaticKeys,
    import_jwks,
)
from hybrid.errors import AuthError
from tests.support.tokens import EC_KEY, ISSUER, OKP_KEY, OTHER_EC_KEY, RSA_KEY, HandClock, public

JWKS_URL = f"{ISSUER}/keys"


class Network:
    """Answers by URL; counts; can be down; can be told to wait until released."""

    def __init__(self, *keys: Any) -> None:
        self.documents: dict[str, Any] = {JWKS_URL: public(*keys)}
        self.fetched: list[str] = []
        self.is_down = False
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def fetch(self, url: str) -> dict[str, Any]:
        self.fetched.append(url)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down or url not in self.documents:
            raise FetchError(f"{url}: down")
        document: dict[str, Any] = self.documents[url]
        return document


def store(network: Network, clock: HandClock) -> KeyStore:
    return KeyStore(ISSUER, network.fetch, clock, jwks_url=JWKS_URL)


async def settled(source: KeyStore) -> None:
    """Wait for the background fetch, if there is one."""
    if source._flight is not None:
        await asyncio.wait({source._flight})


async def test_keys_are_fetched_once_and_found_by_id() -> None:
    network = Network(EC_KEY, RSA_KEY)
    keys = store(network, HandClock())
    assert [key.kid for key in await keys.find("ec")] == ["ec"]
    assert [key.kid for key in await keys.find("rsa")] == ["rsa"]
    assert network.fetched == [JWKS_URL]


async def test_many_askers_share_one_fetch() -> None:
    network = Network(EC_KEY)
    network.gate = asyncio.Event()
    keys = store(network, HandClock())
    askers = [asyncio.create_task(keys.find("ec")) for _ in range(100)]
    await network.entered.wait()
    network.gate.set()
    assert all([len(await asker) == 1 for asker in askers])
    assert len(network.fetched) == 1


async def test_an_asker_that_gives_up_does_not_take_the_fetch_from_the_others() -> None:
    network = Network(EC_KEY)
    network.gate = asyncio.Event()
    keys = store(network, HandClock())
    first, second = (asyncio.create_task(keys.find("ec")) for _ in range(2))
    await network.entered.wait()
    first.cancel()
    network.gate.set()
    assert len(await second) == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(network.fetched) == 1


async def test_old_keys_are_used_while_new_ones_are_fetched_in_the_background() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    clock.move(FRESH_S)
    await keys.find("ec")
    assert len(network.fetched) == 1
    clock.move(1)
    network.gate = asyncio.Event()
    network.documents[JWKS_URL] = public(EC_KEY, RSA_KEY)
    assert len(await keys.find("ec")) == 1  # answers at once though the fetch has not ended
    network.gate.set()
    await settled(keys)
    assert len(network.fetched) == 2
    assert len(await keys.find("rsa")) == 1
    assert len(network.fetched) == 2


async def test_rotation_is_found_by_the_first_token_with_the_new_key() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    network.documents[JWKS_URL] = public(EC_KEY, OKP_KEY)
    clock.move(COOL_DOWN_S)
    assert len(await keys.find("okp")) == 1


async def test_a_flood_of_unknown_key_ids_leads_to_one_fetch_in_a_cool_down() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    for n in range(50):
        assert not await keys.find(f"made-up-{n}")
    assert len(network.fetched) == 1
    clock.move(COOL_DOWN_S)
    found = await asyncio.gather(*(keys.find(f"made-up-{n}") for n in range(50)))
    assert not any(found)
    assert len(network.fetched) == 2
    assert len(await keys.find("ec")) == 1


async def test_an_endless_key_id_is_not_looked_up() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    clock.move(COOL_DOWN_S)
    assert not await keys.find("x" * (KEY_ID_MAX_CHARACTERS + 1))
    assert len(network.fetched) == 1
    assert not await keys.find("x" * KEY_ID_MAX_CHARACTERS)
    assert len(network.fetched) == 2


async def test_old_keys_serve_through_an_outage_for_a_day() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    network.is_down = True
    clock.move(STALE_S)
    assert len(await keys.find("ec")) == 1
    await settled(keys)
    clock.move(1)
    with pytest.raises(AuthError) as caught:
        await keys.find("ec")
    assert caught.value.row.name == "keys_unavailable"
    network.is_down = False
    clock.move(RETRY_S)
    assert len(await keys.find("ec")) == 1


async def test_cold_and_unreachable_is_not_the_tokens_fault() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    network.is_down = True
    keys = store(network, clock)
    assert not await keys.warm()
    for _ in range(50):
        with pytest.raises(AuthError) as caught:
            await keys.find("ec")
    assert (caught.value.row.name, caught.value.row.http_status) == ("keys_unavailable", 503)
    assert caught.value.retry_after_s == RETRY_S
    assert len(network.fetched) == 1
    clock.move(RETRY_S)
    network.is_down = False
    assert len(await keys.find("ec")) == 1


async def test_an_unknown_key_id_during_an_outage_may_be_a_new_key() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    network.is_down = True
    clock.move(COOL_DOWN_S)
    for _ in range(2):
        with pytest.raises(AuthError) as caught:
            await keys.find("okp")
        assert caught.value.row.name == "keys_unavailable"
    assert len(network.fetched) == 2
    assert len(await keys.find("ec")) == 1


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": None}, {"keys": [{"kty": "oct", "k": "AA"}]}])
async def test_a_set_without_usable_keys_counts_as_an_outage(document: dict[str, Any]) -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys = store(network, clock)
    await keys.find("ec")
    network.documents[JWKS_URL] = document
    clock.move(FRESH_S + 1)
    await keys.find("ec")
    await settled(keys)
    assert len(network.fetched) == 2
    assert len(await keys.find("ec")) == 1


async def test_what_a_fetch_may_raise_unexpectedly_is_an_outage_too(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(url: str) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    keys = KeyStore(ISSUER, broken, HandClock(), jwks_url=JWKS_URL)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthError) as caught:
        await keys.find("ec")
    assert caught.value.row.name == "keys_unavailable"
    assert "ZeroDivisionError" in caplog.text
    assert "secret detail" not in caplog.text


async def test_removal_is_announced_addition_is_not() -> None:
    clock, network = HandClock(), Network(EC_KEY)
    keys, removals = store(network, clock), []
    keys.on_removal(lambda: removals.append(1))
    for published in ((EC_KEY,), (EC_KEY, RSA_KEY), (RSA_KEY, EC_KEY)):
        network.documents[JWKS_URL] = public(*published)
        clock.move(COOL_DOWN_S)
        await keys.find("made-up")
        assert removals == []
    network.documents[JWKS_URL] = public(OTHER_EC_KEY, RSA_KEY)
    clock.move(COOL_DOWN_S)
    await keys.find("made-up")
    assert removals == [1]


async def test_closing_gives_up_a_fetch_and_lets_its_askers_go() -> None:
    network = Network(EC_KEY)
    network.gate = asyncio.Event()
    keys = store(network, HandClock())
    asker = asyncio.create_task(keys.find("ec"))
    await network.entered.wait()
    await keys.close()
    with pytest.raises(AuthError) as caught:
        await asker
    assert caught.value.row.name == "keys_unavailable"
    await keys.close()


async def test_without_an_id_the_only_key_is_found() -> None:
    assert len(await StaticKeys([EC_KEY]).find(None)) == 1
    assert not await StaticKeys([EC_KEY, RSA_KEY]).find(None)
    assert not await StaticKeys([EC_KEY, OTHER_EC_KEY]).find(None)
    assert not await StaticKeys().find(None)


# -- importing


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "key",
        [],
        {},
        {"kty": "EC"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
        {"kty": "EC", "crv": "P-256", "x": 5, "y": []},
        {"kty": "EC", "crv": "no", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "", "e": ""},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        {"kty": ["EC"]},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"},
        {**EC_KEY.as_dict(private=False), "use": "enc"},
        {**EC_KEY.as_dict(private=False), "key_ops": ["sign"]},
        {**EC_KEY.as_dict(private=False), "key_ops": 5},
        {**EC_KEY.as_dict(private=False), "kid": 5},
        {**EC_KEY.as_dict(private=False), "use": ["sig"]},
        EC_KEY.as_dict(private=True),
        OctKey.generate_key(256).as_dict(private=True),
    ],
)
def test_one_bad_key_is_left_out_and_spoils_none_of_the_others(bad: Any) -> None:
    good = {**RSA_KEY.as_dict(private=False), "kid": "good"}
    assert [key.kid for key in import_jwks({"keys": [bad, good, bad]})] == ["good"]


def test_keys_of_a_bad_size_are_left_out() -> None:
    for bits, count in ((1024, 0), (2048, 1)):
        with pytest.warns() if bits < 2048 else _nothing():
            key = RSAKey.generate_key(bits).as_dict(private=False)
        with pytest.warns() if bits < 2048 else _nothing():
            assert len(import_jwks({"keys": [key]})) == count
    modulus = "_" * 1_400  # 8400 bits: no key of anybody's, but one check with it would take milliseconds
    assert import_jwks({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB"}]}) == []


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_the_number_of_keys_is_bounded() -> None:
    member = EC_KEY.as_dict(private=False)
    document = {"keys": [{**member, "kid": f"k{n}"} for n in range(KEYS_MAX + 10)]}
    assert [key.kid for key in import_jwks(document)] == [f"k{n}" for n in range(KEYS_MAX)]


def test_a_key_without_an_id_gets_its_thumbprint() -> None:
    member = {name: value for name, value in EC_KEY.as_dict(private=False).items() if name != "kid"}
    assert len(import_jwks({"keys": [member]})) == 1


# -- discovery


def listed(documents: dict[str, Any]) -> tuple[list[str], Callable[[str], Any]]:
    asked: list[str] = []

    async def fetch(url: str) -> dict[str, Any]:
        asked.append(url)
        if url not in documents:
            raise FetchError(f"{url}: status 404")
        document: dict[str, Any] = documents[url]
        return document

    return asked, fetch


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://a.example",
            [
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ],
        ),
        (
            "https://a.example/realms/x",
            [
                "https://a.example/.well-known/oauth-authorization-server/realms/x",
                "https://a.example/realms/x/.well-known/openid-configuration",
            ],
        ),
    ],
)
async def test_metadata_is_asked_for_in_both_places(issuer: str, urls: list[str]) -> None:
    for place in urls:
        asked, fetch = listed({place: {"issuer": issuer, "jwks_uri": "https://k.example"}})
        assert await find_endpoint(issuer, "jwks_uri", fetch) == "https://k.example"
        assert asked == urls[: urls.index(place) + 1]
    asked, fetch = listed({})
    with pytest.raises(FetchError):
        await find_endpoint(issuer, "jwks_uri", fetch)
    assert asked == urls


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"},
        {"issuer": ISSUER + "/", "jwks_uri": "https://a.example"},
        {"jwks_uri": "https://a.example"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 5},
        {"issuer": [ISSUER], "jwks_uri": "https://a.example"},
    ],
)
async def test_metadata_about_another_issuer_is_not_used(document: dict[str, Any]) -> None:
    _, fetch = listed({f"{ISSUER}/.well-known/oauth-authorization-server": document})
    with pytest.raises(FetchError):
        await find_endpoint(ISSUER, "jwks_uri", fetch)


async def test_a_store_without_a_url_asks_the_metadata() -> None:
    network = Network(EC_KEY)
    network.documents[f"{ISSUER}/.well-known/openid-configuration"] = {"issuer": ISSUER, "jwks_uri": JWKS_URL}
    keys = KeyStore(ISSUER, network.fetch, HandClock())
    assert await keys.warm()
    assert network.fetched[-1] == JWKS_URL
