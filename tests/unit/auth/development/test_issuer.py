from __future__ import annotations

import logging
from typing import Any

import pytest

from hybrid.auth.development import (
    LIFETIME_S,
    SUBJECT_MAX_CHARACTERS,
    DevelopmentIssuer,
    TokenAnswer,
    check_loopback,
)
from hybrid.auth.jwt import IssuerConfig, JwtVerifier
from hybrid.errors import AuthError, SettingsError
from hybrid.limits import Limits
from hybrid.model import Grant, Principal
from tests.support.tokens import AUDIENCE, HandClock

URL = "http://127.0.0.1:8000/dev-issuer"


def issuer(clock: HandClock | None = None, **options: Any) -> DevelopmentIssuer:
    return DevelopmentIssuer(URL, AUDIENCE, clock or HandClock(), **options)


def ask(source: DevelopmentIssuer, **fields: str) -> TokenAnswer:
    return source.token_answer({"grant_type": "client_credentials", **fields}.items(), {})


async def checked(source: DevelopmentIssuer, token: str, clock: HandClock | None = None) -> Principal:
    verifier = JwtVerifier([IssuerConfig(URL, keys=source.keys)], AUDIENCE, clock or HandClock(), Limits())
    return await verifier.verify(token)


async def test_the_demo_client_gets_a_fresh_guest_each_time() -> None:
    source = issuer()
    guests = set()
    for _ in range(3):
        answer = ask(source, client_id="demo")
        assert answer.status == 200
        assert answer.body["token_type"] == "Bearer"
        assert answer.body["expires_in"] == LIFETIME_S
        assert "refresh_token" not in answer.body
        assert ("Cache-Control", "no-store") in answer.headers
        principal = await checked(source, answer.body["access_token"])
        assert principal.subject.startswith("guest-")
        assert principal.client == "demo"
        assert principal.grants == (Grant("subscribe", "*"), Grant("publish", "*"))
        guests.add(principal.subject)
    assert len(guests) == 3


async def test_the_cli_client_may_choose_its_subject() -> None:
    source = issuer()
    answer = ask(source, client_id="cli", subject="bob", scope="hybrid:subscribe:news")
    principal = await checked(source, answer.body["access_token"])
    assert (principal.subject, principal.client) == ("bob", "cli")
    assert principal.grants == (Grant("subscribe", "news"),)
    assert answer.body["scope"] == "hybrid:subscribe:news"
    guest = await checked(source, ask(source, client_id="cli").body["access_token"])
    assert guest.subject.startswith("guest-")


@pytest.mark.parametrize("subject", ["", "a" * (SUBJECT_MAX_CHARACTERS + 1), "a\nb", "\u202e", "\x00"])
async def test_subjects_are_bounded_printable_text(subject: str) -> None:
    source = issuer()
    answer = ask(source, client_id="cli", subject=subject)
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    longest = ask(source, client_id="cli", subject="a" * SUBJECT_MAX_CHARACTERS)
    assert (await checked(source, longest.body["access_token"])).subject == "a" * SUBJECT_MAX_CHARACTERS


async def test_the_lifetime_is_a_setting_and_follows_the_given_clock() -> None:
    clock = HandClock()
    source = issuer(clock, lifetime_s=60)
    answer = ask(source, client_id="demo")
    assert answer.body["expires_in"] == 60
    assert (await checked(source, answer.body["access_token"], clock)).expires_at_s == clock.wall_s() + 60
    clock.move(60 + 31)
    with pytest.raises(AuthError) as caught:
        await checked(source, answer.body["access_token"], clock)
    assert caught.value.row.name == "token_expired"


@pytest.mark.parametrize(
    ("scope", "is_allowed"),
    [
        ("hybrid:subscribe:demo:a", True),
        ("hybrid:subscribe:demo:*", True),
        ("hybrid:subscribe:demo:a hybrid:publish:demo:chat", True),
        ("", True),
        ("hybrid:subscribe:*", False),
        ("hybrid:subscribe:demo", False),
        ("hybrid:publish:demo:a", False),
        ("hybrid:subscribe:demo:a hybrid:subscribe:other", False),
        ("openid", False),
        ("hybrid:subscribe:demo:a openid", False),
        ("hybrid:admin:x", False),
        ("hybrid:subscribe:a*b", False),
        ('hybrid:subscribe:demo:"', False),
    ],
)
async def test_no_more_is_granted_than_the_client_may_have(scope: str, is_allowed: bool) -> None:
    source = issuer(scope="hybrid:subscribe:demo:* hybrid:publish:demo:chat")
    answer = ask(source, client_id="demo", scope=scope)
    if is_allowed:
        assert answer.status == 200
        assert answer.body["scope"] == (scope or "hybrid:subscribe:demo:* hybrid:publish:demo:chat")
    else:
        assert (answer.status, answer.body["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"client_id": "nobody"}, "invalid_client"),
        ({}, "invalid_client"),
        ({"client_id": "demo", "client_secret": "x"}, "invalid_client"),
        ({"client_id": "demo", "subject": "root"}, "invalid_request"),
        ({"client_id": "demo", "grant_type": "password"}, "unsupported_grant_type"),
        ({"client_id": "demo", "grant_type": "authorization_code"}, "invalid_request"),
        ({"client_id": "cli", "grant_type": "authorization_code", "code": "x"}, "unauthorized_client"),
        ({"client_id": "demo", "grant_type": "refresh_token"}, "invalid_request"),
        ({"client_id": "resource-server"}, "invalid_client"),
        ({"client_id": "demo", "grant_type": '"\\é'}, "unsupported_grant_type"),
    ],
)
async def test_errors_are_those_of_rfc_6749(fields: dict[str, str], error: str) -> None:
    answer = ask(issuer(), **fields)
    assert answer.status in (400, 401)
    assert answer.body["error"] == error
    assert "access_token" not in answer.body


async def test_repeated_parameters_are_refused() -> None:
    fields = [("grant_type", "client_credentials"), ("client_id", "cli"), ("subject", "a"), ("subject", "b")]
    answer = issuer().token_answer(fields, {})
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")


async def test_minting_needs_nobodys_consent() -> None:
    clock = HandClock()
    source = issuer(clock, scope="hybrid:subscribe:demo:*")
    principal = await checked(source, source.mint("bench-1", "hybrid:publish:any", lifetime_s=5), clock)
    assert (principal.subject, principal.grants) == ("bench-1", (Grant("publish", "any"),))
    assert principal.expires_at_s == clock.wall_s() + 5


async def test_rotation_keeps_the_old_key_for_a_while() -> None:
    source = issuer()
    first = source.mint("a", "")
    source.rotate()
    second = source.mint("a", "")
    assert len(source.jwks()["keys"]) == 2
    await checked(source, first)
    await checked(source, second)
    source.rotate()
    with pytest.raises(AuthError):
        await checked(source, first)
    await checked(source, second)


async def test_only_public_parts_are_published() -> None:
    for key in issuer().jwks()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_a_scope_that_cannot_be_read_does_not_start() -> None:
    with pytest.raises(SettingsError):
        issuer(scope="hybrid:subscribe:a*b")


def test_authlib_is_kept_from_logging_tokens() -> None:
    logging.getLogger("authlib").setLevel(logging.DEBUG)
    issuer()
    assert logging.getLogger("authlib").level == logging.INFO
    assert not logging.getLogger("authlib.oauth2.rfc6749").isEnabledFor(logging.DEBUG)


def test_what_was_sent_is_not_said_again() -> None:
    """A token that stands in the wrong field must not come back in an error, which ends up in logs."""
    marker = "MarkerThatMustNotBeSeen"
    for name in ("grant_type", "client_id", "scope", "code", "refresh_token", "device_code", "subject"):
        answer = ask(issuer(), **{"client_id": "demo", name: marker})
        assert answer.status in (400, 401) or name in ("code", "refresh_token", "device_code")
        assert marker not in str(answer.body) + str(answer.headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST", "unix:/x"])
def test_loopback_is_fine(host: str) -> None:
    check_loopback(host, allow=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "192.0.2.1", "example.com", "127.0.0.1.example", "*"])
def test_anything_else_has_to_be_spelled_out(host: str) -> None:
    with pytest.raises(SettingsError):
        check_loopback(host, allow=False)
    check_loopback(host, allow=True)
