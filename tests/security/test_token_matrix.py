"""Tokens that must not be accepted, each wrong in one way; and that nothing but an AuthError ever comes out."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import OctKey, RSAKey
from joserfc.jws import JWSRegistry

from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.errors import AuthError
from hybrid.limits import Limits
from tests.support.tokens import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    NOW_S,
    OTHER_EC_KEY,
    RSA_KEY,
    HandClock,
    claims,
    segment,
    sign,
)

OTHER_ISSUER = "https://other.example"
GOOD = sign()


def verifier(**config: Any) -> JwtVerifier:
    """Two issuers; both have a key with the id `ec`, each its own."""
    return JwtVerifier(
        [
            IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY, RSA_KEY]), **config),
            IssuerConfig(OTHER_ISSUER, keys=StaticKeys([OTHER_EC_KEY]), **config),
        ],
        AUDIENCE,
        HandClock(),
        Limits(),
    )


async def refused(token: str, **config: Any) -> None:
    checker = verifier(**config)
    with pytest.raises(AuthError) as caught:
        await checker.verify(token)
    assert caught.value.row.name == "token_refused"
    assert str(caught.value) == "The token is not accepted here."  # the same words for all: they tell nothing
    assert checker.cached(token) is None


def unsigned(header: Any, payload: Any = None, signature: str = "") -> str:
    return f"{segment(header)}.{segment(claims() if payload is None else payload)}.{signature}"


async def test_the_good_token_is_good() -> None:
    assert (await verifier().verify(GOOD)).subject == "alice"
    other = sign(claims(iss=OTHER_ISSUER), key=OTHER_EC_KEY)
    assert (await verifier().verify(other)).issuer == OTHER_ISSUER


async def test_a_key_of_one_issuer_does_not_sign_for_another_with_the_same_key_id() -> None:
    await refused(sign(key=OTHER_EC_KEY))
    await refused(sign(claims(iss=OTHER_ISSUER), key=EC_KEY))


async def test_a_public_rsa_key_is_no_shared_secret() -> None:
    for secret in (RSA_KEY.as_pem(private=False), json.dumps(RSA_KEY.as_dict(private=False)).encode()):
        signed = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'rsa'})}.{segment(claims())}"
        await refused(f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}")


async def test_symmetric_algorithms_are_refused_whatever_the_key() -> None:
    await refused(sign(key=OctKey.generate_key(256, {"kid": "ec"}), algorithm="HS256"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256 ", "es256", "ES256K", "RS1", "dir"])
async def test_algorithms_are_pinned(algorithm: str) -> None:
    header = {"alg": algorithm, "typ": "at+jwt", "kid": "ec"}
    await refused(unsigned(header))
    await refused(unsigned(header, signature=GOOD.split(".")[2]))


async def test_an_algorithm_that_the_issuer_does_not_use_is_refused() -> None:
    await refused(sign(key=RSA_KEY, algorithm="RS256"), algorithms=("ES256",))
    await refused(sign(key=RSA_KEY, algorithm="RS512"))


async def test_a_key_is_used_for_its_own_algorithm_only() -> None:
    pinned = RSAKey.import_key({**RSA_KEY.as_dict(private=True), "alg": "PS256"})
    checker = JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([pinned]))], AUDIENCE, HandClock(), Limits())
    assert (await checker.verify(sign(key=pinned, algorithm="PS256"))).subject == "alice"
    with pytest.raises(AuthError):
        await checker.verify(sign(key=RSA_KEY, algorithm="RS256"))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": None},
        {"typ": "JWT"},
        {"typ": "id+jwt"},
        {"typ": "at+jwt "},
        {"typ": ["at+jwt"]},
        {"typ": {"at+jwt": 1}},
        {"typ": 5},
        {"typ": True},
        {"crit": ["exp"], "exp": 1},
        {"crit": 5},
        {"crit": []},
        {"crit": [[]]},
        {"b64": True},
        {"b64": False, "crit": ["b64"]},
        {"kid": 5},
        {"kid": ["ec"]},
        {"kid": {"ec": 1}},
        {"kid": "unknown"},
        {"kid": ""},
        {"kid": "rsa"},
        {"kid": "x" * 300},
        {"alg": "PS256"},
        {"alg": ["ES256"]},
        {"alg": {"ES256": 1}},
        {"alg": 5},
        {"x": "a" * 2_048},
    ],
)
async def test_headers_that_are_wrong_in_one_way(header: dict[str, Any]) -> None:
    members = {"alg": "ES256", "typ": "at+jwt", "kid": "ec", **header}
    members = {name: value for name, value in members.items() if value is not None}
    head, payload = segment(members), segment(claims())
    # Really signed, so that nothing but the header can be the reason.
    signature = JWSRegistry.algorithms["ES256"].sign(f"{head}.{payload}".encode(), EC_KEY)
    await refused(f"{head}.{payload}.{segment(signature)}")


async def test_keys_that_a_token_brings_along_are_not_used() -> None:
    for extra in (
        {"jwk": OTHER_EC_KEY.as_dict(private=False)},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
    ):
        await refused(sign(key=OTHER_EC_KEY, **extra))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iss": "https://evil.example"},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"iss": 5},
        {"iss": ""},
        {"aud": None},
        {"aud": "https://other.example"},
        {"aud": []},
        {"aud": ""},
        {"aud": ["a", 5, AUDIENCE]},
        {"aud": {"a": AUDIENCE}},
        {"aud": AUDIENCE + "/"},
        {"aud": AUDIENCE[:-1]},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"exp": None},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"exp": "1900000000"},
        {"exp": True},
        {"exp": [1900000000]},
        {"iat": None},
        {"iat": "1700000000"},
        {"iat": NOW_S + 3600},
        {"iat": float("nan")},
        {"nbf": NOW_S + 3600},
        {"nbf": "x"},
        {"cnf": {"jkt": "x"}},
        {"cnf": {}},
        {"cnf": 0},
        {"scope": 5},
        {"scope": [5]},
        {"scope": {"a": 1}},
        {"scope": "hybrid:subscribe:a*b"},
        {"scope": "hybrid:publish:"},
        {"auth_time": "x"},
    ],
)
async def test_claims_that_are_wrong_in_one_way(changes: dict[str, Any]) -> None:
    await refused(sign(claims(**changes)))


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"a"', b"5", b"{", b"\xff", b"{}", b'{"iss":"https://issuer.example"}', b"[" * 5_000],
)
async def test_payloads_that_are_no_claims(payload: bytes) -> None:
    await refused(sign(payload))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "opaque-token",
        GOOD + ".",
        GOOD + ".x.y",
        "." + GOOD,
        GOOD.rpartition(".")[0],
        GOOD.rpartition(".")[0] + ".",
        GOOD + "=",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace(".", ". ", 1),
        "Bearer " + GOOD,
        GOOD + "\ud800",
        GOOD + "é",
        "\x00",
        "💥.💥.💥",
        GOOD.lower(),
        '{"payload":"e30","protected":"e30","signature":""}',
    ],
)
async def test_texts_that_are_no_token(token: str) -> None:
    await refused(token)


@pytest.mark.parametrize(
    "header",
    [
        [],
        "alg",
        ["alg"],
        5,
        None,
        {},
        {"crit": 5},
        {"crit": [[]]},
        {"alg": None},
        {"alg": {}},
        {"ALG": "ES256"},
        b"{",
        b"\xff\xfe",
        b'{"alg":"ES256","alg":"none"}',
        b"[" * 3_000,
        b'{"alg":' * 1_000,
        b"1" * 5_000,
    ],
)
async def test_hostile_headers_do_nothing_but_be_refused(header: Any) -> None:
    await refused(unsigned(header, signature=GOOD.split(".")[2]))


async def test_one_signature_has_one_text() -> None:
    """The last character of a segment has bits that decoders ignore; each spelling would be another hash."""
    head, payload, signature = GOOD.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = {f"{head}.{payload}.{signature[:-1]}{character}" for character in alphabet} - {GOOD}
    assert len(spellings) == 63
    for token in spellings:
        await refused(token)


async def test_every_single_changed_character_is_noticed() -> None:
    checker = verifier()
    for index, character in enumerate(GOOD):
        changed = GOOD[:index] + ("A" if character != "A" else "B") + GOOD[index + 1 :]
        with pytest.raises(AuthError):
            await checker.verify(changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
HEADER_NAMES = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "zip", "enc"])
CLAIM_NAMES = st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "client_id", "scope", "cnf", "amr"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(HEADER_NAMES, JSON, max_size=4))
async def test_any_header_is_refused_without_a_signature(changes: dict[str, Any]) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "ec", **changes}
    with pytest.raises(AuthError):
        await verifier().verify(unsigned(header, signature=GOOD.split(".")[2]))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(CLAIM_NAMES, JSON, max_size=3))
async def test_any_signed_claims_give_a_sound_principal_or_an_auth_error(changes: dict[str, Any]) -> None:
    checker = verifier()
    try:
        principal = await checker.verify(sign({**claims(), **changes}))
    except AuthError:
        return
    assert principal.subject
    assert principal.issuer in (ISSUER, OTHER_ISSUER)
    assert principal.expires_at_s > NOW_S - 31
