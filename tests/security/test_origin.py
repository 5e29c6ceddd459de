"""Pages of other sites do not get in (cross-site WebSocket hijacking, DNS rebinding)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.auth.origin import DoorPolicy
from hybrid.errors import AuthError, SettingsError

APP = "https://app.example"


def policy(same: bool = True) -> DoorPolicy:
    return DoorPolicy(
        [APP, "http://localhost:5173", "capacitor://localhost"],
        ["hybrid.example", "127.0.0.1:8000", "[::1]:8000", "localhost:*"],
        allow_same_origin=same,
    )


def headers(*, host: str | None = "hybrid.example", origin: str | None = None) -> list[tuple[bytes, bytes]]:
    made = [(b"accept", b"*/*")]
    if host is not None:
        made.append((b"host", host.encode("latin-1")))
    if origin is not None:
        made.append((b"origin", origin.encode("latin-1")))
    return made


def is_allowed(checker: DoorPolicy, given: list[tuple[bytes, bytes]], scheme: str = "http") -> bool:
    try:
        checker.check(given, scheme=scheme)
    except AuthError as error:
        if error.row.number != 4504:
            raise
        return False
    return True


@pytest.mark.parametrize("origin", [None, APP, "http://localhost:5173", "capacitor://localhost"])
def test_listed_origins_and_none_at_all_come_in(origin: str | None) -> None:
    assert is_allowed(policy(), headers(origin=origin))
    assert is_allowed(policy(same=False), headers(origin=origin))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example:443",
        "https://app.example/",
        "https://app.example.evil.example",
        "https://evilapp.example",
        "https://app.exampl",
        "https://APP.example",
        "https://app.example ",
        " https://app.example",
        "https://app.example, https://evil.example",
        "https://app.example https://evil.example",
        "https://user@app.example",
        "https://user@hybrid.example",
        "https://hybrid.example#",
        "https://hybrid.example/",
        "https://hybrid.example\x00",
        "https://hybrid.example\r\n",
        "hybrid.example",
        "//hybrid.example",
        "chrome-extension://hybrid.example",
        "ftp://hybrid.example",
        "*",
        "http://localhost",
        "http://localhost:5174",
        "file://",
        "h\xe9://x",
    ],
)
def test_any_other_origin_is_refused(origin: str) -> None:
    assert not is_allowed(policy(), headers(origin=origin))


@pytest.mark.parametrize(
    ("host", "origin", "is_same"),
    [
        ("hybrid.example", "https://hybrid.example", True),
        ("hybrid.example", "http://hybrid.example", True),
        ("HYBRID.example", "https://hybrid.example", True),
        ("hybrid.example", "https://hybrid.example:8000", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://127.0.0.1", False),
        ("127.0.0.1:8000", "http://localhost:8000", False),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("localhost:9", "http://localhost:9", True),
        ("localhost:80", "http://localhost", True),
        ("localhost:443", "https://localhost", True),
        ("localhost:443", "http://localhost", False),
    ],
)
def test_our_own_pages_come_in_where_that_is_set(host: str, origin: str, is_same: bool) -> None:
    assert is_allowed(policy(), headers(host=host, origin=origin)) is is_same
    assert not is_allowed(policy(same=False), headers(host=host, origin=origin))


def test_a_page_in_the_clear_is_not_our_own_over_tls() -> None:
    plain = headers(origin="http://hybrid.example")
    assert is_allowed(policy(), plain, scheme="http")
    for scheme in ("https", "wss"):
        assert not is_allowed(policy(), plain, scheme=scheme)
        assert is_allowed(policy(), headers(origin="https://hybrid.example"), scheme=scheme)


@pytest.mark.parametrize("host", ["hybrid.example", "Hybrid.EXAMPLE", "127.0.0.1:8000", "localhost", "localhost:1"])
def test_our_hosts_are_compared_without_case(host: str) -> None:
    assert is_allowed(policy(), headers(host=host))


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "hybrid.example:8000",
        "hybrid.example.",
        "hybrid.example.evil.example",
        "127.0.0.1",
        "127.0.0.1:80",
        "localhost:",
        "localhost:*",
        "localhost:123456",
        "localhost:8000@evil.example",
        "evil.example#localhost",
        "localhost.evil.example:1",
        "a@hybrid.example",
        "hybrid.example/",
        "hybrid.example, evil.example",
        "hybrid.example\n",
        "hybrid.exampl\xe9",
        "[::1]",
    ],
)
def test_any_other_host_is_refused_with_and_without_origin(host: str | None) -> None:
    assert not is_allowed(policy(), headers(host=host))
    assert not is_allowed(policy(), headers(host=host, origin=APP))
    if host:
        assert not is_allowed(policy(), headers(host=host, origin=f"https://{host}"))


def test_repeated_headers_are_refused() -> None:
    assert not is_allowed(policy(), [*headers(origin=APP), (b"origin", APP.encode())])
    assert not is_allowed(policy(), [*headers(), (b"host", b"hybrid.example")])


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_bytes_do_anything_but_pass_or_be_refused(host: bytes, origin: bytes) -> None:
    given = [(b"host", host), (b"origin", origin)]
    assert not is_allowed(policy(), given)
    assert not is_allowed(policy(), [(b"host", b"hybrid.example"), (b"origin", b"https://" + origin + b"!")])


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "",
        "https://app.example/",
        "https://app.example/x",
        "https://*.example",
        "https://APP.example",
        "HTTPS://app.example",
        "app.example",
        "https://",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:*",
        "https://\xe9.example",
        "https://a b",
    ],
)
def test_origins_that_could_never_match_or_match_everything_do_not_start(origin: str) -> None:
    with pytest.raises(SettingsError):
        DoorPolicy([origin], ["a"])


@pytest.mark.parametrize("hosts", [[], [""], ["*"], ["https://a"], ["a b"], ["a/"], ["a:b"], ["*.example"], ["a:"]])
def test_hosts_that_could_never_match_or_match_everything_do_not_start(hosts: list[str]) -> None:
    with pytest.raises(SettingsError):
        DoorPolicy([], hosts)


def test_cors_is_for_listed_origins_exactly() -> None:
    assert policy().cors_headers(APP) == (
        (b"access-control-allow-origin", APP.encode()),
        (b"vary", b"Origin"),
        (b"access-control-expose-headers", b"Retry-After, WWW-Authenticate"),
    )
    assert dict(policy().cors_headers(APP, is_preflight=True)) == {
        b"access-control-allow-origin": APP.encode(),
        b"vary": b"Origin",
        b"access-control-allow-methods": b"GET, POST",
        b"access-control-allow-headers": b"Authorization, DPoP, Content-Type, "
        b"Last-Event-ID, Idempotency-Key, Hybrid-Type",
        b"access-control-max-age": b"7200",
    }
    for origin in (None, "null", "*", "https://evil.example", "https://hybrid.example", APP + "\r\nx: y"):
        for is_preflight in (True, False):
            assert policy().cors_headers(origin, is_preflight=is_preflight) == ((b"vary", b"Origin"),)


def test_credentials_are_never_allowed() -> None:
    every = policy().cors_headers(APP) + policy().cors_headers(APP, is_preflight=True)
    assert not any(b"credentials" in name for name, _ in every)
