from __future__ import annotations

import logging

import pytest

from hybrid.auth.development import AuthorizationRefused, Bounds, ConsentRequest, Revocation, TokenAnswer
from hybrid.auth.development.authorization import AuthorizationCode, Codes
from hybrid.auth.development.clients import Client
from hybrid.auth.development.signin import SignIn
from hybrid.auth.development.tokens import TokenRecords
from tests.unit.auth.development.asking import CHALLENGE, PAGE, SCOPE, URL, VERIFIER, Asking, claims, returned


def test_a_request_in_order_is_shown_to_the_person() -> None:
    shown = Asking().issuer.consent_request(Asking().query(login_hint="ada"))
    assert shown == ConsentRequest("demo", "The demo page", SCOPE, PAGE, "ada")


def test_consent_brings_a_code_back_with_the_state_and_the_issuer() -> None:
    back = Asking().consent(state="a b&c=d")
    assert set(back) == {"code", "state", "iss"}
    assert (back["state"], back["iss"]) == ("a b&c=d", URL)
    assert len(back["code"]) >= 43


def test_denial_is_told_to_the_client() -> None:
    back = Asking().consent(None)
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "s1", URL)
    assert "code" not in back


def test_a_code_becomes_tokens_that_say_who_and_when() -> None:
    asking = Asking()
    answer = asking.sign_in("ada")
    assert answer.body["token_type"] == "Bearer"
    assert (answer.body["scope"], answer.body["sub"]) == (SCOPE, "ada")
    said = claims(answer.body["access_token"])
    assert (said["sub"], said["client_id"], said["scope"], said["iss"]) == ("ada", "demo", SCOPE, URL)
    assert said["iat"] == int(asking.clock.wall_s())
    assert said["exp"] == said["iat"] + answer.body["expires_in"]
    assert len(said["jti"]) > 16
    assert len(said["sid"]) > 16
    assert len(answer.body["refresh_token"]) >= 43


def test_each_sign_in_has_an_id_of_its_own() -> None:
    asking = Asking()
    first, second = (claims(asking.sign_in().body["access_token"]) for _ in range(2))
    assert first["sid"] != second["sid"]
    assert first["jti"] != second["jti"]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"redirect_uri": None},
        {"redirect_uri": ""},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": PAGE + "x"},
        {"redirect_uri": PAGE + "?x=1"},
        {"redirect_uri": PAGE.rstrip("/")},
        {"redirect_uri": PAGE.upper()},
        {"redirect_uri": PAGE.replace("8000", "8001")},
        {"redirect_uri": 'http://127.0.0.1:8000/"><script>'},
        {"client_id": "cli"},
        {"client_id": "resource-server"},
        {"response_type": "token", "redirect_uri": "https://evil.example/"},
    ],
)
def test_a_request_whose_return_address_is_not_checked_is_never_answered_there(changes: dict[str, str | None]) -> None:
    asking = Asking()
    with pytest.raises(AuthorizationRefused) as caught:
        asking.issuer.consent_request(asking.query(**changes))
    assert "evil" not in f"{caught.value.words} {caught.value}"
    with pytest.raises(AuthorizationRefused):
        asking.issuer.consent_answer(asking.query(**changes), "ada")


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "code_challenge", "response_type"])
def test_a_parameter_that_comes_twice_is_refused(name: str) -> None:
    asking = Asking()
    query = asking.query()
    twice = [*query, *(pair for pair in query if pair[0] == name)]
    with pytest.raises(AuthorizationRefused):
        asking.issuer.consent_request(twice)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain", "code_challenge": VERIFIER}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": CHALLENGE + "\n"}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1]}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "hybrid:subscribe:a*b"}, "invalid_scope"),
    ],
)
def test_what_a_known_client_does_wrong_is_told_to_it(changes: dict[str, str | None], error: str) -> None:
    asking = Asking()
    for answer in (
        asking.issuer.consent_request(asking.query(**changes)),
        asking.issuer.consent_answer(asking.query(**changes), "ada"),
    ):
        back = returned(answer)
        assert (back["error"], back["state"], back["iss"]) == (error, "s1", URL)
        assert "code" not in back


def test_a_verifier_is_needed_and_must_fit() -> None:
    asking = Asking()
    for verifier in ("", "w" * 43, CHALLENGE, VERIFIER[:-1], VERIFIER + "v", "v" * 42 + "é"):
        answer = asking.redeem(asking.consent()["code"], code_verifier=verifier)
        assert answer.status == 400, verifier
        assert answer.body["error"] in ("invalid_request", "invalid_grant")
        assert "access_token" not in answer.body


def test_a_wrong_verifier_uses_the_code_up() -> None:
    asking = Asking()
    code = asking.consent()["code"]
    assert asking.redeem(code, code_verifier="w" * 43).status == 400
    assert asking.redeem(code).body["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [{"redirect_uri": PAGE + "x"}, {"redirect_uri": ""}, {"client_id": "cli"}, {"code": "x"}, {"code": "é\ud800"}],
)
def test_a_code_is_for_one_client_and_one_return_address(changes: dict[str, str]) -> None:
    asking = Asking()
    fields = {"code": asking.consent()["code"], **changes}
    answer = asking.redeem(**fields)
    assert answer.status == 400
    assert answer.body["error"] in ("invalid_grant", "unauthorized_client")


def test_a_code_is_not_for_another_client_that_may_have_codes_too() -> None:
    asking = Asking()
    records = TokenRecords(asking.clock, Bounds())
    codes = Codes(asking.clock, Bounds(), records)
    sign_in = SignIn("ada", "one", SCOPE, 900)
    codes.put("c", AuthorizationCode("one", PAGE, sign_in, CHALLENGE))
    one, other = (Client(name, "", SCOPE, ("authorization_code",)) for name in ("one", "other"))
    assert codes.use("c", other) is None
    assert codes.use("c", one) is None, "who has it has stolen it"
    assert sign_in.is_over


def test_a_code_lives_a_minute() -> None:
    asking = Asking()
    early, late = asking.consent()["code"], asking.consent()["code"]
    asking.clock.move(59)
    assert asking.redeem(early).status == 200
    asking.clock.move(2)
    assert asking.redeem(late).body["error"] == "invalid_grant"


def test_a_code_that_comes_again_ends_the_tokens_made_from_it(caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking()
    told: list[Revocation] = []
    asking.issuer.on_revocation(told.append)
    code = asking.consent()["code"]
    first = asking.redeem(code).body
    asking.clock.move(3_600)  # long after the code's own time
    renewed, other = asking.refresh(first["refresh_token"]).body, asking.sign_in().body
    assert asking.is_active(renewed["access_token"])
    with caplog.at_level(logging.DEBUG):
        assert asking.redeem(code).body["error"] == "invalid_grant"
    assert not asking.is_active(renewed["access_token"])
    assert asking.refresh(renewed["refresh_token"]).body["error"] == "invalid_grant"
    assert told == [Revocation(session_id=claims(renewed["access_token"])["sid"])]
    assert "came a second time" in caplog.text
    assert code not in caplog.text
    assert asking.is_active(other["access_token"]), "only its own tokens"


def test_codes_are_bounded_and_the_oldest_goes() -> None:
    asking = Asking(bounds=Bounds(codes_max=2))
    codes = [asking.consent()["code"] for _ in range(3)]
    assert [asking.redeem(code).status for code in codes] == [400, 200, 200]


def test_used_codes_are_bounded_and_an_old_replay_is_refused_all_the_same() -> None:
    asking = Asking(bounds=Bounds(spent_codes_max=1))
    code = asking.consent()["code"]
    first = asking.redeem(code).body
    asking.sign_in()
    assert asking.redeem(code).body["error"] == "invalid_grant"
    assert asking.is_active(first["access_token"]), "what it belonged to is forgotten; nothing else is lost"


def test_return_addresses_can_be_named() -> None:
    asking = Asking(redirect_uris=("http://localhost:8000/", "https://app.example/back?x=1"))
    with pytest.raises(AuthorizationRefused):
        asking.issuer.consent_request(asking.query())
    answer = asking.issuer.consent_answer(asking.query(redirect_uri="https://app.example/back?x=1"), "ada")
    assert isinstance(answer, TokenAnswer)
    assert answer.location is not None
    assert answer.location.startswith("https://app.example/back?x=1&code=")


def test_no_credential_stands_in_a_repr() -> None:
    asking = Asking()
    answer = asking.issuer.consent_answer(asking.query(), "ada")
    assert isinstance(answer, TokenAnswer)
    code = returned(answer)["code"]
    shown = repr(answer) + repr(vars(asking.issuer)) + repr(asking.redeem(code))
    assert code not in shown
    assert "eyJ" not in shown
