from __future__ import annotations

import re

import pytest

from hybrid.auth.development import Bounds, DeviceRequest, TooManyGuesses
from tests.unit.auth.development.asking import DEVICE, URL, Asking, claims

SCOPE = "hybrid:subscribe:demo:*"


def error(asking: Asking, device_code: str, **changes: str) -> str:
    body = asking.poll(device_code, **changes).body
    assert "access_token" not in body
    said: str = body["error"]
    return said


def begun(asking: Asking) -> tuple[str, str]:
    body = asking.begin_device(scope=SCOPE).body
    return body["device_code"], body["user_code"]


def test_a_device_gets_two_codes_and_is_told_what_to_show() -> None:
    answer = Asking().begin_device()
    assert answer.status == 200
    body = answer.body
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", body["user_code"])
    assert len(body["device_code"]) >= 43
    assert body["verification_uri"] == f"{URL}/device"
    assert body["verification_uri_complete"] == f"{URL}/device?user_code={body['user_code']}"
    assert (body["expires_in"], body["interval"]) == (600, 5)
    assert ("Cache-Control", "no-store") in answer.headers


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": "demo"}, "unauthorized_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": "resource-server"}, "invalid_client"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "hybrid:subscribe:a*b"}, "invalid_scope"),
    ],
)
def test_not_every_client_and_not_every_scope(changes: dict[str, str], expected: str) -> None:
    assert Asking().begin_device(**changes).body["error"] == expected


def test_the_token_comes_once_after_consent() -> None:
    asking = Asking()
    device, code = begun(asking)
    assert error(asking, device) == "authorization_pending"
    request = asking.issuer.decide_device(code, "ada")
    assert isinstance(request, DeviceRequest)
    answer = asking.poll(device)
    assert answer.status == 200
    said = claims(answer.body["access_token"])
    assert (said["sub"], said["client_id"], said["scope"]) == ("ada", "cli", SCOPE)
    assert answer.body["refresh_token"]
    assert error(asking, device) == "invalid_grant", "once"
    renewed = asking.refresh(answer.body["refresh_token"], client_id="cli").body
    assert claims(renewed["access_token"])["sid"] == said["sid"]


def test_a_denial_is_told_once_too() -> None:
    asking = Asking()
    device, code = begun(asking)
    asking.issuer.decide_device(code, None)
    assert [error(asking, device) for _ in range(2)] == ["access_denied", "invalid_grant"]


def test_a_decision_is_final() -> None:
    asking = Asking()
    device, code = begun(asking)
    assert asking.issuer.decide_device(code, None) is not None
    assert asking.issuer.decide_device(code, "ada") is None
    assert asking.issuer.device_request(code) is None
    assert error(asking, device) == "access_denied"


def test_who_polls_too_often_is_slowed_down_and_then_must_wait_longer() -> None:
    """RFC 8628, section 3.5: "the interval MUST be increased by 5 seconds for this and all subsequent requests"."""
    asking = Asking()
    device, code = begun(asking)
    assert error(asking, device) == "authorization_pending"
    asking.clock.move(4.9)
    assert error(asking, device) == "slow_down"
    asking.clock.move(9.9)
    assert error(asking, device) == "slow_down"
    asking.clock.move(15)
    assert error(asking, device) == "authorization_pending"
    asking.issuer.decide_device(code, "ada")
    assert asking.poll(device).status == 200, "what is decided is told at once"


def test_codes_live_ten_minutes_and_the_device_is_told_when_they_are_over() -> None:
    asking = Asking()
    device, code = begun(asking)
    late, late_code = begun(asking)
    asking.issuer.decide_device(late_code, "ada")
    asking.clock.move(599)
    assert asking.issuer.device_request(code) is not None
    asking.clock.move(1)
    assert asking.issuer.device_request(code) is None
    assert asking.issuer.decide_device(code, "ada") is None
    assert error(asking, device) == "expired_token"
    assert error(asking, late) == "expired_token", "decided in time, fetched too late"
    asking.clock.move(600)
    assert error(asking, device) == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": "demo"}, "unauthorized_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"device_code": "x"}, "invalid_grant"),
        ({"device_code": ""}, "invalid_request"),
        ({"device_code": "é\ud800"}, "invalid_grant"),
    ],
)
def test_a_device_code_is_for_its_client(changes: dict[str, str], expected: str) -> None:
    asking = Asking()
    device, code = begun(asking)
    asking.issuer.decide_device(code, "ada")
    fields = {"grant_type": DEVICE, "client_id": "cli", "device_code": device, **changes}
    assert asking.token(**fields).body["error"] == expected
    assert asking.poll(device).status == 200, "and nobody else's attempt uses it up"


@pytest.mark.parametrize(
    "write", [str.lower, lambda code: code.replace("-", " "), lambda code: f" {code[:4]}{code[5:]}"]
)
def test_a_person_may_write_the_code_as_they_like(write: object) -> None:
    asking = Asking()
    _, code = begun(asking)
    assert callable(write)
    assert asking.issuer.device_request(write(code)) is not None


def test_guessing_is_bounded_also_for_who_is_right_at_last() -> None:
    asking = Asking()
    _, code = begun(asking)
    for guess in range(10):
        assert asking.issuer.device_request(f"BBBB-BBB{guess}") is None
    with pytest.raises(TooManyGuesses) as caught:
        asking.issuer.device_request(code)
    assert 0 < caught.value.retry_after_s <= 60
    with pytest.raises(TooManyGuesses):
        asking.issuer.decide_device(code, "ada")
    asking.clock.move(caught.value.retry_after_s)
    assert asking.issuer.device_request(code) is not None


def test_right_codes_are_no_guesses() -> None:
    asking = Asking()
    _, code = begun(asking)
    assert all(asking.issuer.device_request(code) for _ in range(50))


def test_devices_are_bounded_and_the_oldest_goes() -> None:
    asking = Asking(bounds=Bounds(devices_max=2))
    devices = [begun(asking) for _ in range(3)]
    assert asking.issuer.device_request(devices[0][1]) is None
    assert error(asking, devices[0][0]) == "invalid_grant"
    assert asking.issuer.device_request(devices[1][1]) is not None


def test_codes_are_not_in_a_repr() -> None:
    asking = Asking()
    device, code = begun(asking)
    shown = repr(asking.issuer.device_request(code)) + repr(asking.begin_device())
    assert code not in shown
    assert device not in shown
