from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from hybrid.auth.claims import SCOPES_MAX, ClaimsReader
from hybrid.auth.grants import GRANTS_MAX
from hybrid.auth.jwt import LEEWAY_S, IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys, VerifyingKey
from hybrid.errors import AuthError, SettingsError
from hybrid.limits import Limits
from hybrid.model import Grant, Principal
from tests.support.tokens import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    NOW_S,
    OKP_KEY,
    OTHER_EC_KEY,
    RSA_KEY,
    HandClock,
    claims,
    sign,
)


class CountingKeys(StaticKeys):
    """Counts how often keys were asked for: once for each token that is really checked."""

    asked = 0

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        self.asked += 1
        return await super().find(kid)


def verifier(
    *keys: VerifyingKey, clock: HandClock | None = None, cache_max: int = 100, **config: Any
) -> tuple[JwtVerifier, CountingKeys]:
    source = CountingKeys(keys or (EC_KEY, RSA_KEY, OKP_KEY))
    made = JwtVerifier(
        [IssuerConfig(ISSUER, keys=source, **config)], AUDIENCE, clock or HandClock(), Limits(), cache_max=cache_max
    )
    return made, source


async def test_a_good_token_becomes_a_small_principal() -> None:
    checker, _ = verifier()
    token = sign()
    principal = await checker.verify(token)
    assert (principal.issuer, principal.subject, principal.client, principal.token_id) == (ISSUER, "alice", "app", "t1")
    assert principal.grants == (Grant("subscribe", "news"), Grant("publish", "chat:*"))
    assert principal.expires_at_s == NOW_S + 600
    assert len(principal.token_hash) == 16
    assert not principal.is_anonymous


@pytest.mark.parametrize(
    ("key", "algorithm"), [(EC_KEY, "ES256"), (RSA_KEY, "RS256"), (RSA_KEY, "PS256"), (OKP_KEY, "Ed25519")]
)
async def test_each_pinned_algorithm_is_accepted(key: Any, algorithm: str) -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(key=key, algorithm=algorithm))).subject == "alice"


async def test_both_names_of_ed25519_are_accepted_whatever_the_key_calls_it_and_nothing_warns() -> None:
    from hybrid.auth.keys import import_jwks

    for name_in_key in ("EdDSA", "Ed25519"):
        keys = import_jwks({"keys": [{**OKP_KEY.as_dict(private=False), "alg": name_in_key}]})
        checker, _ = verifier(*keys)
        for name_in_token in ("EdDSA", "Ed25519"):
            token = sign(key=OKP_KEY, algorithm=name_in_token)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert (await checker.verify(token)).subject == "alice"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"])
async def test_the_type_is_compared_without_case(typ: str) -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(typ=typ))).subject == "alice"


@pytest.mark.parametrize("typ", [None, "JWT", "jwt"])
async def test_an_issuer_that_does_not_send_the_type_can_be_allowed_to(typ: str | None) -> None:
    strict, _ = verifier()
    with pytest.raises(AuthError):
        await strict.verify(sign(typ=typ))
    lenient, _ = verifier(requires_typ=False)
    assert (await lenient.verify(sign(typ=typ))).subject == "alice"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
async def test_our_name_may_stand_alone_or_in_a_list(audience: Any) -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(claims(aud=audience)))).subject == "alice"


async def test_an_issuer_can_have_another_name_for_us() -> None:
    checker, _ = verifier(audience="hybrid-api")
    assert (await checker.verify(sign(claims(aud="hybrid-api")))).subject == "alice"
    with pytest.raises(AuthError):
        await checker.verify(sign())


@pytest.mark.parametrize(
    ("changes", "client"),
    [({}, "app"), ({"client_id": None}, ""), ({"client_id": None, "azp": "spa"}, "spa"), ({"azp": "spa"}, "app")],
)
async def test_client_and_token_id_may_be_missing(changes: dict[str, Any], client: str) -> None:
    checker, _ = verifier()
    principal = await checker.verify(sign(claims(jti=None, **changes)))
    assert (principal.client, principal.token_id) == (client, "")


@pytest.mark.parametrize("scope", ["hybrid:subscribe:a openid", ["hybrid:subscribe:a", "openid"]])
async def test_the_claim_with_the_scope_can_be_named_and_may_be_a_list(scope: Any) -> None:
    checker, _ = verifier(scope_claim="scp")
    assert (await checker.verify(sign(claims(scp=scope)))).grants == (Grant("subscribe", "a"),)


async def test_a_token_without_scope_grants_nothing() -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(claims(scope=None)))).grants == ()


async def test_headers_that_real_issuers_add_are_accepted() -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(nonce="n", x5t="t" * 100, ver="1.0"))).subject == "alice"


async def test_without_a_key_id_the_only_key_is_used() -> None:
    checker, _ = verifier(EC_KEY)
    assert (await checker.verify(sign(kid=None))).subject == "alice"
    several, _ = verifier(EC_KEY, RSA_KEY)
    with pytest.raises(AuthError):
        await several.verify(sign(kid=None))


async def test_of_two_keys_with_one_id_the_right_one_is_found() -> None:
    namesake = RSAKey.generate_key(2048, {"kid": "ec"})
    checker, _ = verifier(namesake, OTHER_EC_KEY, EC_KEY)
    assert (await checker.verify(sign())).subject == "alice"


# -- time


async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    checker, _ = verifier()
    now = int(NOW_S)
    for changes in ({"exp": now - LEEWAY_S + 1}, {"iat": now + LEEWAY_S}, {"nbf": now + LEEWAY_S}):
        assert (await checker.verify(sign(claims(**changes)))).subject == "alice"
    for changes in ({"iat": now + LEEWAY_S + 1}, {"nbf": now + LEEWAY_S + 1}):
        with pytest.raises(AuthError) as caught:
            await checker.verify(sign(claims(**changes)))
        assert caught.value.row.name == "token_refused"
    with pytest.raises(AuthError) as caught:
        await checker.verify(sign(claims(exp=now - LEEWAY_S)))
    assert caught.value.row.name == "token_expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": None},
        {"sub": None},
        {"iat": None},
        {"cnf": {"jkt": "x"}},
        {"nbf": NOW_S + 999},
        {"scope": "hybrid:subscribe:a*b"},
        {"scope": 5},
    ],
)
async def test_expired_is_said_only_when_that_is_the_only_fault(changes: dict[str, Any]) -> None:
    """Otherwise a client would come back for ever with tokens that can never do."""
    checker, _ = verifier()
    with pytest.raises(AuthError) as caught:
        await checker.verify(sign(claims(exp=int(NOW_S) - 3600, **changes)))
    assert caught.value.row.name == "token_refused"


async def test_an_expired_token_with_a_bad_signature_is_just_refused() -> None:
    checker, _ = verifier()
    with pytest.raises(AuthError) as caught:
        await checker.verify(sign(claims(exp=1), key=OTHER_EC_KEY))
    assert caught.value.row.name == "token_refused"


# -- the cache


async def test_a_success_is_remembered_until_the_token_ends() -> None:
    clock = HandClock()
    checker, keys = verifier(clock=clock)
    token = sign()
    assert checker.cached(token) is None
    principal = await checker.verify(token)
    assert checker.cached(token) is principal
    assert await checker.verify(token) is principal
    assert keys.asked == 1
    clock.move(599)
    assert checker.cached(token) is principal
    clock.move(1)
    assert checker.cached(token) is None
    await checker.verify(token)  # within the leeway: good, but checked each time
    assert checker.cached(token) is None
    clock.move(LEEWAY_S)
    with pytest.raises(AuthError):
        await checker.verify(token)


async def test_a_failure_is_not_remembered() -> None:
    checker, keys = verifier(RSA_KEY)
    token = sign()
    with pytest.raises(AuthError):
        await checker.verify(token)
    keys.replace([RSA_KEY, EC_KEY])
    assert (await checker.verify(token)).subject == "alice"


async def test_a_withdrawn_key_ends_what_it_vouched_for() -> None:
    checker, keys = verifier(EC_KEY, RSA_KEY)
    token = sign()
    await checker.verify(token)
    keys.replace([EC_KEY, RSA_KEY, OKP_KEY])
    assert checker.cached(token) is not None  # one key more takes nothing from anybody
    keys.replace([RSA_KEY, OKP_KEY])
    assert checker.cached(token) is None
    with pytest.raises(AuthError):
        await checker.verify(token)


async def test_a_key_replaced_under_the_same_id_ends_what_it_vouched_for() -> None:
    checker, keys = verifier(EC_KEY)
    token = sign()
    await checker.verify(token)
    keys.replace([OTHER_EC_KEY])
    assert checker.cached(token) is None
    with pytest.raises(AuthError):
        await checker.verify(token)


async def test_the_cache_is_bounded_and_loses_the_oldest() -> None:
    checker, _ = verifier(cache_max=3)
    tokens = [sign(claims(jti=f"t{n}")) for n in range(5)]
    for token in tokens:
        await checker.verify(token)
    assert [checker.cached(token) is not None for token in tokens] == [False, False, True, True, True]
    assert len(checker._cache) == 3


async def test_a_large_cache_loses_many_of_its_oldest_at_once() -> None:
    checker, _ = verifier(cache_max=32)
    tokens = [sign(claims(jti=f"t{n}")) for n in range(33)]
    for token in tokens:
        await checker.verify(token)
    assert [checker.cached(token) is not None for token in tokens] == [False] * 2 + [True] * 31


async def test_two_tokens_with_one_id_and_payload_are_two_entries() -> None:
    """The key of the cache is the hash of the whole token: by anything less, a forged signature would find an entry."""
    checker, _ = verifier()
    token = sign()
    await checker.verify(token)
    head, payload, signature = token.split(".")
    forged = f"{head}.{payload}.{'A' * len(signature)}"
    assert checker.cached(forged) is None
    with pytest.raises(AuthError):
        await checker.verify(forged)


async def test_principals_share_the_grants_of_one_scope() -> None:
    checker, _ = verifier()
    one = await checker.verify(sign(claims(sub="a")))
    other = await checker.verify(sign(claims(sub="b")))
    assert one.grants is other.grants
    assert one.client is other.client
    assert one.issuer is other.issuer


async def test_a_token_whose_key_is_withdrawn_while_a_hook_is_asked_is_not_remembered() -> None:
    gate, is_asked = asyncio.Event(), asyncio.Event()

    async def slowly(principal: Principal, claims: Mapping[str, Any]) -> Principal:
        is_asked.set()
        await gate.wait()
        return principal

    source = CountingKeys([EC_KEY, RSA_KEY])
    config = IssuerConfig(ISSUER, keys=source)
    checker = JwtVerifier([config], AUDIENCE, HandClock(), Limits(), finish=slowly)
    token = sign()
    asking = asyncio.ensure_future(checker.verify(token))
    await is_asked.wait()
    source.replace([RSA_KEY])
    gate.set()
    await asking
    assert checker.cached(token) is None
    with pytest.raises(AuthError):
        await checker.verify(token)


def test_the_shared_grants_are_bounded() -> None:
    reader = ClaimsReader(ISSUER)
    for n in range(SCOPES_MAX + 5):
        reader.principal({"sub": "alice", "scope": f"hybrid:subscribe:c{n}"}, "t")
    assert len(reader._shared) == SCOPES_MAX
    reader.principal({"sub": "alice", "scope": "hybrid:subscribe:" + "a" * 250 + " x" * 500}, "t")
    assert len(reader._shared) == SCOPES_MAX


# -- bounds


async def test_a_longer_token_is_not_looked_at() -> None:
    longest = Limits().token_max_bytes
    checker, keys = verifier()
    padding = 4 * 1024
    while len(token := sign(claims(x="a" * padding))) < longest - 4:
        padding += 1
    assert len(token) <= longest
    assert (await checker.verify(token)).subject == "alice"
    too_long = sign(claims(x="a" * (padding + 8)))
    assert len(too_long) > longest
    with pytest.raises(AuthError):
        await checker.verify(too_long)
    assert keys.asked == 1
    assert checker.cached("a" * (longest + 1)) is None


async def test_too_many_grants_refuse_the_whole_token() -> None:
    checker, _ = verifier()
    fitting = " ".join(f"hybrid:subscribe:{n}" for n in range(GRANTS_MAX))
    assert len((await checker.verify(sign(claims(scope=fitting)))).grants) == GRANTS_MAX
    with pytest.raises(AuthError):
        await checker.verify(sign(claims(scope=fitting + " hybrid:subscribe:more")))


@pytest.mark.parametrize("claim", ["sub", "client_id", "jti"])
@pytest.mark.parametrize(
    "value", ["a" * 256, "é" * 128, "a\nb", "a\x00", "\u202ea", "\ud800", "\u2028", 5, ["a"], {"a": 1}]
)
async def test_names_are_bounded_printable_text(claim: str, value: Any) -> None:
    checker, _ = verifier()
    assert (await checker.verify(sign(claims(**{claim: "a" * 255})))).subject
    with pytest.raises(AuthError):
        await checker.verify(sign(claims(**{claim: value})))


# -- settings


@pytest.mark.parametrize(
    "make",
    [
        lambda: JwtVerifier([], "", HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig(ISSUER, audience="")], AUDIENCE, HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig("")], AUDIENCE, HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig(ISSUER), IssuerConfig(ISSUER)], AUDIENCE, HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig(ISSUER, algorithms=())], AUDIENCE, HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig(ISSUER, algorithms=("HS256",))], AUDIENCE, HandClock(), Limits()),
        lambda: JwtVerifier([IssuerConfig(ISSUER, algorithms=("ES256", "none"))], AUDIENCE, HandClock(), Limits()),
    ],
)
def test_settings_that_would_accept_too_much_are_refused(make: Callable[[], JwtVerifier]) -> None:
    with pytest.raises(SettingsError):
        make()


async def test_without_issuers_every_token_is_refused() -> None:
    checker = JwtVerifier([], AUDIENCE, HandClock(), Limits())
    with pytest.raises(AuthError):
        await checker.verify(sign())
    assert await checker.warm()
    await checker.close()
    await checker.close()
