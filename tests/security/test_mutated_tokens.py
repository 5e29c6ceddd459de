"""Whatever is done to a token, one error comes out, in the same words: nothing to learn from, nothing that breaks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hybrid.auth.jwt import LEEWAY_S, IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.errors import TABLE, AuthError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.mutants import OTHER_ISSUER, Mutant, mutant, sources
from tests.support.tokens import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    NOW_S,
    OKP_KEY,
    OTHER_EC_KEY,
    RSA_KEY,
    HandClock,
    decoded,
    public,
)

MUTANTS = (20_000, 100_000)
"""In every `make test`, and where there is a quarter of a minute for it."""
SOURCES = sources()
WORDS = {"token_refused": TABLE["token_refused"].meaning, "token_expired": TABLE["token_expired"].meaning}


def verifier() -> JwtVerifier:
    return JwtVerifier(
        [
            IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY, RSA_KEY, OKP_KEY])),
            IssuerConfig(OTHER_ISSUER, keys=StaticKeys([OTHER_EC_KEY])),
        ],
        AUDIENCE,
        HandClock(),
        Limits(),
    )


async def outcome_of(checker: JwtVerifier, token: str) -> Principal | str:
    """The principal, or the name of the error. Any other exception comes out."""
    try:
        return await checker.verify(token)
    except AuthError as error:
        name, words, cause = error.row.name, str(error), error.__cause__
    assert (words, cause) == (WORDS[name], None)
    return name


async def test_the_sources_are_in_order_but_for_those_that_are_too_old() -> None:
    checker = verifier()
    for source in SOURCES:
        outcome = await outcome_of(checker, source.token)
        assert outcome == "token_expired" if source.is_expired else isinstance(outcome, Principal), source


@pytest.mark.parametrize("count", [MUTANTS[0], pytest.param(MUTANTS[1], marks=pytest.mark.slow)])
async def test_whatever_is_done_to_a_token_yields_the_one_error(count: int) -> None:
    """A failure tells the seed, the token and the keys, which are made anew each time."""
    checker = verifier()
    originals = {source.token: source for source in SOURCES}
    counts: Counter[str] = Counter()
    for seed in range(count):
        made = mutant(seed, SOURCES)
        try:
            outcome = await outcome_of(checker, made.token)
            counts[outcome if isinstance(outcome, str) else "accepted"] += 1
            if made.token in originals:
                assert outcome == "token_expired" if originals[made.token].is_expired else outcome != "token_refused"
            elif made.is_signed:
                _check_signed(made, outcome)
            else:
                assert outcome == "token_refused"
                assert checker.cached(made.token) is None
        except BaseException:
            print(f"seed {seed}, {made.how}: {made.token!r}, keys {public(EC_KEY, RSA_KEY, OKP_KEY, OTHER_EC_KEY)}")
            raise
    print(dict(counts))
    assert counts.total() == count
    assert counts["token_refused"] > 0.85 * count
    assert counts["token_expired"] > 100, "so the signed ones got as far as the claims"
    for source in SOURCES:
        assert source.is_expired or isinstance(await outcome_of(checker, source.token), Principal)


def _check_signed(made: Mutant, outcome: Principal | str) -> None:
    """A signature that holds makes the issuer answerable for what stands in the token, and only in good shape."""
    if outcome == "token_refused":
        return
    header, payload = map(_members, made.token.split(".")[:2])
    assert (header["alg"], header["kid"], header["typ"].lower()) == ("ES256", "ec", "at+jwt")
    assert not header.keys() & {"crit", "b64"}
    assert payload["iss"] == ISSUER
    assert AUDIENCE in (payload["aud"] if isinstance(payload["aud"], list) else [payload["aud"]])
    assert isinstance(payload["sub"], str)
    assert payload["sub"]
    exp = payload["exp"]
    assert isinstance(exp, (int, float)) and not isinstance(exp, bool)  # noqa: PT018 -- one thought
    assert NOW_S - 1e9 < exp < float("inf") or outcome == "token_expired"
    assert (outcome == "token_expired") == (exp <= NOW_S - LEEWAY_S)
    if isinstance(outcome, Principal):
        assert (outcome.issuer, outcome.subject) == (ISSUER, payload["sub"])
        assert not outcome.proof_key, "shown without a proof"
        assert outcome.expires_at_s == exp


def _members(segment: str) -> dict[str, Any]:
    return dict(decoded(segment))


@pytest.mark.parametrize("seed", [0, 1, 99_999])
def test_a_seed_gives_the_same_mutant_again(seed: int) -> None:
    one, same = mutant(seed, SOURCES), mutant(seed, SOURCES)
    assert one.how == same.how
    assert one.token.rpartition(".")[0] == same.token.rpartition(".")[0]  # ECDSA's signatures are random
