from __future__ import annotations

import logging

import pytest

from hybrid.auth.development import Bounds, Revocation
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.limits import Limits
from tests.support.tokens import AUDIENCE
from tests.unit.auth.development.asking import SCOPE, URL, Asking, claims


async def test_a_refresh_goes_on_for_the_same_party_with_new_tokens() -> None:
    asking = Asking()
    first = asking.sign_in().body
    asking.clock.move(800)
    second = asking.refresh(first["refresh_token"]).body
    assert second["refresh_token"] != first["refresh_token"]
    assert (second["sub"], second["scope"]) == ("ada", SCOPE)
    before, after = claims(first["access_token"]), claims(second["access_token"])
    assert after["sid"] == before["sid"]
    assert after["jti"] != before["jti"]
    assert after["iat"] == before["iat"] + 800
    verifier = JwtVerifier([IssuerConfig(URL, keys=asking.issuer.keys)], AUDIENCE, asking.clock, Limits())
    old, new = [await verifier.verify(each["access_token"]) for each in (first, second)]
    assert new.is_same_party(old)
    assert new.expires_at_s > old.expires_at_s


def test_a_used_one_ends_the_whole_family(caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking()
    told: list[Revocation] = []
    asking.issuer.on_revocation(told.append)
    first = asking.sign_in().body
    second = asking.refresh(first["refresh_token"]).body
    third = asking.refresh(second["refresh_token"]).body
    with caplog.at_level(logging.DEBUG):
        assert asking.refresh(first["refresh_token"]).body["error"] == "invalid_grant"
    for each in (first, second, third):
        assert not asking.is_active(each["access_token"])
        assert asking.refresh(each["refresh_token"]).body["error"] == "invalid_grant"
    assert told == [Revocation(session_id=claims(third["access_token"])["sid"])], "once"
    assert "a refresh token of client demo came a second time" in caplog.text
    assert first["refresh_token"] not in caplog.text


def test_a_replay_leaves_other_sign_ins_alone() -> None:
    asking = Asking()
    mine, other = asking.sign_in().body, asking.sign_in().body
    asking.refresh(mine["refresh_token"])
    asking.refresh(mine["refresh_token"])
    assert asking.is_active(other["access_token"])
    assert asking.refresh(other["refresh_token"]).status == 200


@pytest.mark.parametrize(
    "changes", [{"client_id": "cli"}, {"client_id": "nobody"}, {"refresh_token": "x"}, {"scope": "hybrid:publish:*"}]
)
def test_a_refresh_that_is_refused_uses_nothing_up(changes: dict[str, str]) -> None:
    asking = Asking()
    token = asking.sign_in().body["refresh_token"]
    assert asking.token(**{"grant_type": "refresh_token", "refresh_token": token, **changes}).status == 400
    assert asking.refresh(token).status == 200


def test_less_may_be_asked_for_and_all_of_it_again_later() -> None:
    """RFC 6749, section 6: the new refresh token has the scope of the old one."""
    asking = Asking()
    first = asking.sign_in().body
    less = asking.refresh(first["refresh_token"], scope="hybrid:publish:demo:chat").body
    assert claims(less["access_token"])["scope"] == less["scope"] == "hybrid:publish:demo:chat"
    assert asking.introspect(less["access_token"])["scope"] == "hybrid:publish:demo:chat"
    assert asking.refresh(less["refresh_token"]).body["scope"] == SCOPE


def test_it_lives_a_day_from_its_making() -> None:
    asking = Asking()
    token = asking.sign_in().body["refresh_token"]
    asking.clock.move(86_399)
    token = asking.refresh(token).body["refresh_token"]
    asking.clock.move(86_401)
    assert asking.refresh(token).body["error"] == "invalid_grant"


def test_they_are_bounded_and_the_oldest_goes() -> None:
    asking = Asking(bounds=Bounds(refresh_tokens_max=2))
    tokens = [asking.sign_in().body["refresh_token"] for _ in range(3)]
    assert asking.refresh(tokens[0]).body["error"] == "invalid_grant"
    assert asking.refresh(tokens[2]).status == 200
