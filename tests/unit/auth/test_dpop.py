"""Proofs of possession, one fault at a time (RFC 9449, section 4.3)."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from hybrid.auth.dpop import AGE_MAX_S, ALGORITHMS, ID_MAX_CHARACTERS, PROOF_MAX_BYTES, ProofDesk
from hybrid.broker.memory_proofs import MemoryProofStore
from hybrid.errors import AuthError, LimitError
from hybrid.limits import Limits
from tests.support.proofs import CLIENT_KEY, OTHER_CLIENT_KEY, digest, proof
from tests.support.tokens import NOW_S, RSA_KEY, HandClock, segment, sign, tampered

URL = "https://live.example/v1/stream"
TOKEN = "a.b.c"

with warnings.catch_warnings(action="ignore"):
    WEAK_KEY = RSAKey.generate_key(1_024)

LONG_EXPONENT = RSAKey.import_key(
    rsa.generate_private_key(public_exponent=3, key_size=2_048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
)


def desk(clock: HandClock | None = None, **limits: Any) -> ProofDesk:
    clock = clock or HandClock()
    return ProofDesk(MemoryProofStore(clock, Limits(**limits)), clock)


def made(**changes: Any) -> str:
    return proof(TOKEN, URL, NOW_S, **changes)


def refused(text: str, token: str = TOKEN, method: str = "GET", url: str = URL) -> None:
    with pytest.raises(AuthError) as caught:
        desk().check(text, token, method=method, urls=[url])
    assert caught.value.row.name == "proof_refused"
    assert str(caught.value) == caught.value.row.meaning  # one answer for all


def test_a_good_proof_tells_the_key() -> None:
    found = desk().check(made(), TOKEN, method="GET", urls=["https://other.example/", URL])
    assert found.key == CLIENT_KEY.thumbprint()


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (CLIENT_KEY, "ES256"),
        (ECKey.generate_key("P-384"), "ES384"),
        (RSA_KEY, "RS256"),
        (RSA_KEY, "PS256"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
        (OKPKey.generate_key("Ed25519"), "EdDSA"),
    ],
)
def test_every_algorithm_that_is_told_is_taken(key: ECKey | RSAKey | OKPKey, alg: str) -> None:
    assert alg in ALGORITHMS
    text = made(key=key, alg=alg)
    assert desk().check(text, TOKEN, method="GET", urls=[URL]).key == key.thumbprint()
    assert desk().claimed_key(text) == key.thumbprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "a" * (ID_MAX_CHARACTERS + 1)},
        {"htm": None},
        {"htm": "POST"},
        {"htm": "get"},
        {"htu": None},
        {"htu": 7},
        {"htu": "/v1/stream"},
        {"htu": "https://live.example/v1/command"},
        {"htu": "http://live.example/v1/stream"},
        {"htu": "https://live.example:8443/v1/stream"},
        {"htu": "https://evil.example/v1/stream"},
        {"htu": "https://live.example@evil.example/v1/stream"},
        {"htu": "https://live.example/v1/stream/"},
        {"htu": "https://live.example/v1/%73tream"},
        {"htu": "https://live.example:x/v1/stream"},
        {"iat": None},
        {"iat": str(int(NOW_S))},
        {"iat": True},
        {"iat": float("nan")},
        {"iat": NOW_S - AGE_MAX_S - 1},
        {"iat": NOW_S + AGE_MAX_S + 1},
        {"ath": None},
        {"ath": digest("another token")},
        {"ath": digest(TOKEN) + "="},
        {"header": {"typ": None}},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": ["dpop+jwt"]}},
        {"header": {"jwk": None}},
        {"header": {"jwk": "x"}},
        {"header": {"jwk": {}}},
        {"header": {"jwk": CLIENT_KEY.as_dict(private=True)}},
        {"header": {"jwk": OTHER_CLIENT_KEY.as_dict(private=False)}},
        {"header": {"jwk": OctKey.generate_key(256).as_dict()}},
        {"header": {"crit": ["x"], "x": 1}},
        {"header": {"b64": True}},
        {"key": WEAK_KEY, "alg": "RS256"},
        {"key": RSA_KEY, "alg": "RS512"},
        {"key": LONG_EXPONENT, "alg": "RS256"},
        {"key": RSAKey.generate_key(5_120), "alg": "RS256"},
        {"key": ECKey.generate_key("P-521"), "alg": "ES512"},
    ],
)
def test_one_fault_is_enough(changes: dict[str, Any]) -> None:
    refused(made(**changes))


def test_symmetric_and_absent_signatures_are_none() -> None:
    secret = OctKey.import_key(str(CLIENT_KEY.as_dict(private=False)).encode())
    body = {"jti": "x", "htm": "GET", "htu": URL, "iat": int(NOW_S), "ath": digest(TOKEN)}
    public = CLIENT_KEY.as_dict(private=False)
    refused(sign(body, secret, "HS256", typ="dpop+jwt", jwk=public, kid=None))
    refused(f"{segment({'alg': 'none', 'typ': 'dpop+jwt', 'jwk': public})}.{segment(body)}.")


def test_what_is_no_proof_at_all() -> None:
    for text in ("", "a", "a.b", "a.b.c", "a.b.c.d", "é.b.c", made() + "x", "." * 2, tampered(made())):
        refused(text)
    refused(made(text="x" * PROOF_MAX_BYTES))


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://LIVE.example/v1/stream",
        "https://live.example:443/v1/stream",
        "https://live.example/v1/stream?history=1",
        "https://live.example/v1/stream#x",
    ],
)
def test_urls_are_compared_as_urls(url: str) -> None:
    assert desk().check(made(htu=url), TOKEN, method="GET", urls=[URL])


def test_an_encoded_channel_is_its_own() -> None:
    url = "https://live.example/v1/channels/a%2Fb"
    assert desk().check(proof(TOKEN, url, NOW_S), TOKEN, method="GET", urls=[url])
    refused(proof(TOKEN, "https://live.example/v1/channels/a/b", NOW_S), url=url)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["alg", "typ", "jwk", "crit", "kid", "b64", "x5c"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_no_header_raises_anything_else(header: dict[str, Any]) -> None:
    _, payload, signature = made().split(".")
    text = f"{segment(header)}.{payload}.{signature}"
    refused(text)
    assert isinstance(desk().claimed_key(text), str)


# -- once


async def test_a_proof_counts_once() -> None:
    clock = HandClock()
    here = desk(clock)
    first = here.check(made(jti="1"), TOKEN, method="GET", urls=[URL])
    await here.use_up(first)
    for _ in range(2):
        again = here.check(made(jti="1"), TOKEN, method="GET", urls=[URL])
        with pytest.raises(AuthError, match="used up"):
            await here.use_up(again)
    other_key = proof(TOKEN, URL, NOW_S, key=OTHER_CLIENT_KEY, jti="1")  # the same id of somebody else
    await here.use_up(here.check(other_key, TOKEN, method="GET", urls=[URL]))
    clock.move(AGE_MAX_S + 1)
    refused_now = made(jti="1")
    with pytest.raises(AuthError):
        here.check(refused_now, TOKEN, method="GET", urls=[URL])  # too old, long before it is forgotten


async def test_used_proofs_are_bounded_and_none_is_forgotten_early() -> None:
    clock = HandClock()
    store = MemoryProofStore(clock, Limits(proofs_max=30))
    uses = [(bytes([n]), f"key{n % 10}") for n in range(31)]
    for proof_id, key in uses[:30]:
        assert await store.first_use(proof_id, key, 120.0)
    with pytest.raises(LimitError, match="proofs_max"):
        await store.first_use(*uses[30], 120.0)
    assert not await store.first_use(*uses[0], 120.0)
    clock.move(120)
    assert await store.first_use(*uses[30], 120.0)
    assert len(store._used) == len(store._per_key) == 1


async def test_one_key_cannot_take_all_the_room() -> None:
    here = desk(proofs_max=30)
    proofs = [here.check(made(jti=str(n)), TOKEN, method="GET", urls=[URL]) for n in range(4)]
    for each in proofs[:3]:
        await here.use_up(each)
    with pytest.raises(LimitError, match="proofs_max"):
        await here.use_up(proofs[3])
    other = proof(TOKEN, URL, NOW_S, key=OTHER_CLIENT_KEY)
    await here.use_up(here.check(other, TOKEN, method="GET", urls=[URL]))
