"""Asking the issuer about tokens (RFC 7662): what counts as a yes, what is remembered, and how often is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from hybrid.auth import introspection
from hybrid.auth.fetch import FetchError
from hybrid.auth.introspection import ASKED_MAX, ENTERING_S, NEGATIVE_S, POSITIVE_S, IntrospectionConfig, Introspector
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.auth.keys import StaticKeys
from hybrid.auth.rules import GrantRule
from hybrid.auth.verifiers import AnyTokenVerifier
from hybrid.errors import AuthError
from hybrid.limits import Limits
from hybrid.model import Grant
from tests.support.tokens import AUDIENCE, EC_KEY, ISSUER, NOW_S, HandClock, sign


class Issuer:
    """Answers about tokens, and counts the questions; `gate` holds the answers back."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.is_away = False
        self.gate: asyncio.Event | None = None

    async def post(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        self.asked.append(form["token"])
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise FetchError(f"{url}: ConnectError")
        return self.answers.get(form["token"], {"active": False})  # type: ignore[no-any-return]


def active(**changes: Any) -> dict[str, Any]:
    made = {
        "active": True,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "app",
        "scope": "hybrid:subscribe:news",
        "exp": int(NOW_S) + 600,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def asking(issuer: Issuer, clock: HandClock | None = None, **config: Any) -> Introspector:
    made = IntrospectionConfig(ISSUER, AUDIENCE, "hybrid", "secret", url=f"{ISSUER}/introspect", **config)
    return Introspector(made, clock or HandClock(), Limits(), post=issuer.post)


async def name_of_refusal(introspector: Introspector, token: str, proven_key: str = "") -> str:
    with pytest.raises(AuthError) as caught:
        await introspector.verify(token, proven_key)
    assert token not in str(caught.value)
    return caught.value.row.name


async def test_a_yes_becomes_a_principal_and_is_remembered() -> None:
    issuer, clock = Issuer(), HandClock()
    issuer.answers["opaque"] = active(jti="t1", sid="s1")
    introspector = asking(issuer, clock, rules=(GrantRule(publish=("user:{sub}",)),))
    assert introspector.cached("opaque") is None
    principal = await introspector.verify("opaque")
    assert (principal.issuer, principal.subject, principal.client) == (ISSUER, "alice", "app")
    assert principal.grants == (Grant("subscribe", "news"), Grant("publish", "user:alice"))
    assert principal.is_introspected
    clock.move(POSITIVE_S - 1)
    assert introspector.cached("opaque") is principal
    assert await introspector.verify("opaque") is principal
    assert issuer.asked == ["opaque"]
    clock.move(1)
    assert introspector.cached("opaque") is None
    await introspector.verify("opaque")
    assert issuer.asked == ["opaque"] * 2
    await introspector.close()


async def test_a_no_is_remembered_more_shortly() -> None:
    issuer, clock = Issuer(), HandClock()
    introspector = asking(issuer, clock)
    for _ in range(10):
        assert await name_of_refusal(introspector, "junk") == "token_refused"
    assert issuer.asked == ["junk"]
    clock.move(NEGATIVE_S)
    issuer.answers["junk"] = active()
    assert (await introspector.verify("junk")).subject == "alice"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"active": False},
        {"active": "true"},
        {"active": 1},
        active(active=None),
        active(iss="https://evil.example"),
        active(aud=None),
        active(aud="https://other.example"),
        active(aud=[]),
        active(aud=[7, "https://other.example"]),
        active(sub=7),
        active(sub=None, client_id=None),
        active(exp="tomorrow"),
        active(exp=float("nan")),
        active(exp=int(NOW_S) - 31),
        active(nbf=int(NOW_S) + 31),
        active(nbf="x"),
        active(scope=7),
        active(scope="hybrid:subscribe:a*b"),
        active(token_type="refresh_token"),
        active(cnf={"x5t#S256": "a" * 43}),
    ],
)
async def test_everything_else_is_a_no(answer: dict[str, Any]) -> None:
    issuer = Issuer()
    issuer.answers["opaque"] = answer
    assert await name_of_refusal(asking(issuer), "opaque") == "token_refused"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["https://other.example", AUDIENCE]])
async def test_our_audience_may_be_one_of_several(audience: object) -> None:
    issuer = Issuer()
    issuer.answers["opaque"] = active(aud=audience, iss=None)
    assert (await asking(issuer).verify("opaque")).subject == "alice"


async def test_an_audience_that_need_not_be_named_may_not_be_another_one() -> None:
    issuer = Issuer()
    issuer.answers |= {"mute": active(aud=None), "other": active(aud="https://other.example")}
    introspector = asking(issuer, requires_audience=False)
    assert (await introspector.verify("mute")).subject == "alice"
    assert await name_of_refusal(introspector, "other") == "token_refused"


async def test_a_token_without_an_end_and_one_that_has_just_ended() -> None:
    issuer, clock = Issuer(), HandClock()
    issuer.answers |= {"lasting": active(exp=None), "ending": active(exp=int(NOW_S) - 1)}
    introspector = asking(issuer, clock)
    assert (await introspector.verify("lasting")).expires_at_s == float("inf")
    assert await name_of_refusal(introspector, "ending") == "token_expired"  # within the leeway: not a stranger's


async def test_a_bound_token_needs_its_key() -> None:
    issuer = Issuer()
    issuer.answers |= {"bound": active(cnf={"jkt": "a" * 43}), "free": active()}
    introspector = asking(issuer)
    assert await name_of_refusal(introspector, "bound") == "token_refused"
    assert await name_of_refusal(introspector, "bound", "b" * 43) == "token_refused"
    assert await name_of_refusal(introspector, "free", "a" * 43) == "token_refused"
    assert (await introspector.verify("bound", "a" * 43)).proof_key == "a" * 43
    assert introspector.cached("bound") is None
    assert introspector.cached("bound", "a" * 43) is not None


async def test_an_issuer_that_is_away_is_not_now_and_not_remembered() -> None:
    issuer = Issuer()
    issuer.answers["opaque"] = active()
    issuer.is_away = True
    introspector = asking(issuer)
    logging.getLogger("hybrid.auth.introspection").disabled = True
    try:
        assert await name_of_refusal(introspector, "opaque") == "keys_unavailable"
        issuer.is_away = False
        assert (await introspector.verify("opaque")).subject == "alice"
    finally:
        logging.getLogger("hybrid.auth.introspection").disabled = False


async def test_many_askers_share_one_question_and_may_give_up() -> None:
    issuer = Issuer()
    issuer.answers["opaque"] = active()
    issuer.gate = asyncio.Event()
    introspector = asking(issuer)
    askers = [asyncio.ensure_future(introspector.verify("opaque")) for _ in range(100)]
    await asyncio.sleep(0)
    for asker in askers[:50]:
        asker.cancel()
    await asyncio.sleep(0)
    issuer.gate.set()
    found = await asyncio.gather(*askers, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in found) == 50
    assert issuer.asked == ["opaque"]
    assert all(each is found[-1] for each in found[50:])


async def test_open_questions_are_bounded() -> None:
    issuer = Issuer()
    issuer.gate = asyncio.Event()
    introspector = asking(issuer)
    askers = [asyncio.ensure_future(introspector.verify(f"junk{n}")) for n in range(ASKED_MAX)]
    await asyncio.sleep(0)
    assert await name_of_refusal(introspector, "one more") == "keys_unavailable"
    issuer.gate.set()
    await asyncio.gather(*askers, return_exceptions=True)
    assert await name_of_refusal(introspector, "one more") == "token_refused"


async def test_strangers_do_not_keep_sessions_from_being_looked_at_again() -> None:
    issuer = Issuer()
    issuer.answers["opaque"] = active()
    introspector = asking(issuer)
    live = (await introspector.verify("opaque")).token_hash
    issuer.gate = asyncio.Event()
    strangers = [asyncio.ensure_future(introspector.verify(f"junk{n}")) for n in range(ASKED_MAX)]
    await asyncio.sleep(0)
    again = asyncio.ensure_future(introspector.recheck(live))
    await asyncio.sleep(0)
    issuer.gate.set()
    assert await again is not None
    await asyncio.gather(*strangers, return_exceptions=True)


async def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspection, "REMEMBERED_MAX", 10)
    issuer = Issuer()
    introspector = asking(issuer)
    for n in range(30):
        issuer.answers[f"t{n}"] = active()
        await introspector.verify(f"t{n}")
        await name_of_refusal(introspector, f"junk{n}")
    assert (len(introspector._yes), len(introspector._no)) == (10, 10)
    assert introspector.cached("t29") is not None
    assert introspector.cached("t0") is None


async def test_what_cannot_be_a_token_is_not_asked_about() -> None:
    issuer = Issuer()
    introspector = asking(issuer)
    longest = Limits().token_max_bytes
    for token in ("é", "a\nb", "a" * (longest + 1)):
        assert await name_of_refusal(introspector, token) == "token_refused"
    assert issuer.asked == []
    assert await name_of_refusal(introspector, "a" * longest) == "token_refused"
    assert len(issuer.asked) == 1


async def test_closing_ends_open_questions() -> None:
    issuer = Issuer()
    issuer.gate = asyncio.Event()
    introspector = asking(issuer)
    asker = asyncio.ensure_future(introspector.verify("opaque"))
    await asyncio.sleep(0)
    await introspector.close()
    with pytest.raises(AuthError):
        await asker


# -- again


async def test_a_live_token_is_asked_about_again_whatever_is_remembered() -> None:
    issuer, clock = Issuer(), HandClock()
    issuer.answers["opaque"] = active()
    introspector = asking(issuer, clock)
    principal = await introspector.verify("opaque")
    issuer.answers["opaque"] = active(scope="")
    again = await introspector.recheck(principal.token_hash)
    assert again is not None
    assert again.grants == ()
    assert introspector.cached("opaque") is again
    issuer.answers["opaque"] = {"active": False}
    assert await introspector.recheck(principal.token_hash) is None
    assert introspector.cached("opaque") is None  # and nobody comes in with it
    assert await name_of_refusal(introspector, "opaque") == "token_refused"


async def test_tokens_that_are_not_live_are_forgotten() -> None:
    issuer, clock = Issuer(), HandClock()
    issuer.answers |= {"a": active(), "b": active()}
    introspector = asking(issuer, clock)
    kept, gone = (await introspector.verify("a")).token_hash, (await introspector.verify("b")).token_hash
    introspector.keep({kept})
    assert (await introspector.recheck(gone)) is not None, "what it is to open may be on its way in"
    clock.move(ENTERING_S + 1)
    introspector.keep({kept})
    assert (await introspector.recheck(kept)) is not None
    with pytest.raises(AuthError) as caught:
        await introspector.recheck(gone)
    assert caught.value.row.name == "keys_unavailable"
    assert "opaque" not in repr(introspector.__dict__)


# -- each kind to its judge


async def test_jwts_are_never_shown_to_the_issuer_that_is_asked() -> None:
    issuer = Issuer()
    jwts = JwtVerifier([IssuerConfig(ISSUER, keys=StaticKeys([EC_KEY]))], AUDIENCE, HandClock(), Limits())
    verifier = AnyTokenVerifier(jwts, asking(issuer))
    issuer.answers |= {"opaque": active(), "a.b": active(), "a.b.c": active()}
    assert (await verifier.verify(sign())).subject == "alice"
    assert verifier.cached(sign()) is None or issuer.asked == []
    assert (await verifier.verify("opaque")).is_introspected
    assert verifier.cached("opaque") is not None
    assert (await verifier.verify("a.b")).is_introspected
    with pytest.raises(AuthError):
        await verifier.verify("a.b.c")
    assert issuer.asked == ["opaque", "a.b"]
    await verifier.close()


async def test_without_an_issuer_to_ask_opaque_tokens_are_refused() -> None:
    verifier = AnyTokenVerifier(JwtVerifier([], AUDIENCE, HandClock(), Limits()))
    assert verifier.cached("opaque") is None
    with pytest.raises(AuthError) as caught:
        await verifier.verify("opaque")
    assert caught.value.row.name == "token_refused"
    await verifier.close()
