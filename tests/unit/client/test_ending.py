"""What an ending means: who said it, whether to come back, and when."""

from __future__ import annotations

import json

import pytest

from hybrid.client.ending import error_of, network, of_close, of_http, of_number
from hybrid.errors import BY_NUMBER, AuthError, BrokerError, ChannelError, HybridError, LimitError, ProtocolError


@pytest.mark.parametrize("number", [n for n in BY_NUMBER if n >= 4000])
def test_close_codes_of_the_table_say_whether_to_come_back(number: int) -> None:
    ending = of_close(number, "")
    assert (ending.number, ending.comes_back) == (number, BY_NUMBER[number].comes_back)
    assert not ending.is_network
    assert ending.as_error().row.number == number


@pytest.mark.parametrize(("code", "comes_back"), [(4499, True), (4500, False), (4999, False), (4321, True)])
def test_codes_that_are_not_in_the_table_go_by_their_range(code: int, comes_back: bool) -> None:
    assert of_close(code, "later").comes_back is comes_back


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009])
def test_websockets_own_complaints_mean_stay_away(code: int) -> None:
    assert not of_close(code, "").comes_back


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1013])
def test_other_closes_are_the_network(code: int) -> None:
    assert of_close(code, "").is_network
    assert of_close(code, "").comes_back


def test_draining_comes_back() -> None:
    assert of_close(1012, "draining").comes_back
    assert of_close(1012, "draining").number == 1012


def test_a_problem_of_ours_carries_its_number_and_delay() -> None:
    body = json.dumps({"number": 4429, "detail": "Slow down.", "retry_after_s": 1.5}).encode()
    ending = of_http(429, {"retry-after": "2"}, body)
    assert (ending.number, ending.detail, ending.delay_s, ending.comes_back) == (4429, "Slow down.", 1.5, True)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"number": 7}', b'{"number": "4429"}', b"\xff", b"[" * 100_000]
)
def test_an_answer_of_a_proxy_is_the_network(body: bytes) -> None:
    ending = of_http(502, {"retry-after": "3"}, body)
    assert (ending.is_network, ending.detail, ending.delay_s) == (True, "HTTP 502", 3.0)


@pytest.mark.parametrize("value", ["", "-1", "soon", "Sun, 06 Nov 1994 08:49:37 GMT", None])
def test_a_delay_that_cannot_be_read_is_none(value: str | None) -> None:
    headers = {} if value is None else {"retry-after": value}
    assert of_http(503, headers, b"").delay_s is None


def test_a_delay_is_bounded() -> None:
    assert of_http(503, {"retry-after": "99999999"}, b"").delay_s == 3_600.0


@pytest.mark.parametrize("number", [3400, 3403, 3405, 3413])
def test_an_attach_that_would_fail_the_same_way_is_not_repeated(number: int) -> None:
    assert not of_number(number).comes_back


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (3400, ProtocolError),
        (3401, AuthError),
        (3403, ChannelError),
        (3409, ProtocolError),
        (3413, LimitError),
        (3414, ChannelError),
        (3415, BrokerError),
        (3429, LimitError),
        (3503, BrokerError),
        (4401, AuthError),
        (4501, AuthError),
        (4503, AuthError),
        (9999, HybridError),
    ],
)
def test_errors_are_of_the_class_that_fits(number: int, kind: type[HybridError]) -> None:
    error = error_of(number, "because", 2.0)
    assert type(error) is kind
    assert (str(error), error.retry_after_s) == ("because", 2.0)


def test_a_failure_of_the_network_is_one_line() -> None:
    assert network(OSError("first\nsecond")).detail == "first"
    assert network(TimeoutError()).detail == "TimeoutError"
