from __future__ import annotations

import pytest

from hybrid.auth.development import Bounds, Revocation
from tests.support.tokens import AUDIENCE
from tests.unit.auth.development.asking import SCOPE, URL, Asking, basic, claims


def test_introspection_tells_all_of_an_active_token() -> None:
    asking = Asking()
    token = asking.sign_in().body["access_token"]
    said = claims(token)
    assert asking.introspect(token) == {
        "active": True,
        "iss": URL,
        "sub": "ada",
        "aud": AUDIENCE,
        "client_id": "demo",
        "scope": SCOPE,
        "token_type": "Bearer",
        "iat": said["iat"],
        "exp": said["exp"],
        "jti": said["jti"],
        "sid": said["sid"],
    }


def test_every_grant_and_minting_make_tokens_that_can_be_introspected() -> None:
    asking = Asking()
    minted = asking.issuer.mint("bench", "hybrid:publish:any")
    own = asking.token(grant_type="client_credentials").body["access_token"]
    assert asking.introspect(minted)["sub"] == "bench"
    assert asking.introspect(own)["sub"].startswith("guest-")


@pytest.mark.parametrize("token", ["x", "a.b.c", "é\ud800", "x" * 100_000])
def test_of_what_is_unknown_nothing_is_said(token: str) -> None:
    assert Asking().introspect(token) == {"active": False}


def test_a_token_of_another_issuer_or_changed_by_one_letter_is_unknown() -> None:
    token = Asking().issuer.mint("ada", SCOPE)
    asking = Asking()
    own = asking.issuer.mint("ada", SCOPE)
    assert asking.introspect(token) == {"active": False}
    assert asking.introspect(own[:-1] + ("A" if own[-1] != "A" else "B")) == {"active": False}


def test_a_refresh_token_is_no_token_for_a_resource_server() -> None:
    asking = Asking()
    token = asking.sign_in().body["refresh_token"]
    for hint in ("", "refresh_token", "access_token", "odd"):
        assert asking.introspect(token, token_type_hint=hint) == {"active": False}


def test_an_expired_token_is_inactive_from_that_second_on() -> None:
    asking = Asking(lifetime_s=60)
    token = asking.sign_in().body["access_token"]
    asking.clock.move(59)
    assert asking.is_active(token)
    asking.clock.move(1)
    assert asking.introspect(token) == {"active": False}


def test_the_end_is_that_of_the_token_not_of_its_record() -> None:
    """Claims are whole seconds: a token made late in one is over a little earlier than its lifetime says."""
    asking = Asking(lifetime_s=60)
    asking.clock.move(0.9)
    token = asking.sign_in().body["access_token"]
    asking.clock.move(59.5)
    assert asking.introspect(token) == {"active": False}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("wrong"),
        basic(""),
        basic(client="demo"),
        basic(client="cli"),
        {"authorization": "Basic é"},
        {"authorization": "Basic //8="},
        {"authorization": "Bearer x"},
    ],
)
def test_only_the_resource_server_may_ask(headers: dict[str, str]) -> None:
    asking = Asking()
    token = asking.issuer.mint("ada", SCOPE)
    for fields in ({"token": token}, {"token": token, "client_id": "demo"}, {"token": token, "client_id": "cli"}):
        answer = asking.issuer.introspection_answer(fields.items(), headers)
        assert answer.status in (400, 401)
        assert "active" not in answer.body


def test_the_secret_can_be_chosen_and_opens_nothing_else() -> None:
    asking = Asking(resource_secret="chosen")
    token = asking.issuer.mint("ada", SCOPE)
    assert asking.issuer.introspection_answer({"token": token}.items(), basic("chosen")).body["active"]
    assert asking.issuer.introspection_answer({"token": token}.items(), basic()).status == 401
    granted = asking.issuer.token_answer({"grant_type": "client_credentials"}.items(), basic("chosen"))
    assert granted.body["error"] == "invalid_client"


def test_a_question_without_a_token_is_malformed() -> None:
    asking = Asking()
    assert asking.issuer.introspection_answer([], basic()).body["error"] == "invalid_request"
    assert asking.issuer.revocation_answer([("client_id", "demo")], {}).body["error"] == "invalid_request"


def test_opaque_tokens_say_nothing_and_are_found_by_introspection() -> None:
    asking = Asking(token_format="opaque")
    signed_in = asking.sign_in().body
    minted = asking.issuer.mint("bench", SCOPE)
    for token in (signed_in["access_token"], minted):
        assert "." not in token
        assert len(token) >= 43
        assert asking.is_active(token)
    renewed = asking.refresh(signed_in["refresh_token"]).body
    before, after = asking.introspect(signed_in["access_token"]), asking.introspect(renewed["access_token"])
    assert before["sid"] == after["sid"]
    assert before["jti"] != after["jti"]


def test_a_revoked_access_token_goes_alone() -> None:
    asking = Asking()
    told: list[Revocation] = []
    asking.issuer.on_revocation(told.append)
    body = asking.sign_in().body
    for _ in range(2):
        assert asking.revoke(body["access_token"]).status == 200
    assert not asking.is_active(body["access_token"])
    assert told == [Revocation(token_id=claims(body["access_token"])["jti"])]
    renewed = asking.refresh(body["refresh_token"])
    assert renewed.status == 200
    assert asking.is_active(renewed.body["access_token"])


@pytest.mark.parametrize("hint", ["", "refresh_token", "access_token", "odd"])
def test_a_revoked_refresh_token_takes_the_sign_in_with_it(hint: str) -> None:
    asking = Asking()
    told: list[Revocation] = []
    asking.issuer.on_revocation(told.append)
    first = asking.sign_in().body
    second = asking.refresh(first["refresh_token"]).body
    assert asking.revoke(second["refresh_token"], token_type_hint=hint).status == 200
    assert not asking.is_active(first["access_token"])
    assert not asking.is_active(second["access_token"])
    assert asking.refresh(second["refresh_token"]).body["error"] == "invalid_grant"
    assert told == [Revocation(session_id=claims(first["access_token"])["sid"])]


def test_what_is_unknown_is_revoked_already() -> None:
    """RFC 7009, section 2.2: the client's aim is reached."""
    assert Asking().revoke("nothing").status == 200


def test_nobody_revokes_what_belongs_to_another_client() -> None:
    asking = Asking()
    body = asking.sign_in().body
    for token in (body["access_token"], body["refresh_token"]):
        assert asking.revoke(token, client_id="cli").status == 400
        assert asking.revoke(token, client_id="nobody").status == 400
    assert asking.is_active(body["access_token"])
    assert asking.refresh(body["refresh_token"]).status == 200


def test_what_is_known_is_bounded_and_what_is_forgotten_is_inactive() -> None:
    asking = Asking(bounds=Bounds(access_tokens_max=2))
    tokens = [asking.issuer.mint(f"s{number}", SCOPE) for number in range(3)]
    assert [asking.is_active(token) for token in tokens] == [False, True, True]
