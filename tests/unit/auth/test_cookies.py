"""When a cookie counts, and what makes it a principal."""

from __future__ import annotations

import pytest

from hybrid.auth.cookies import LIFE_MAX_S, VALUE_MAX_BYTES, bounded, check_asker, check_name, find_cookie
from hybrid.errors import AuthError, SettingsError
from hybrid.model import Grant, Principal

NAME = "__Host-session"


@pytest.mark.parametrize("name", ["session", "__Secure-s", "__host-s", "__Host-", "__Host-a b", "__Host-a;"])
def test_a_name_that_others_could_set_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="__Host-"):
        check_name(name)
    check_name("__Host-my_app-1")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], None),
        ([b"__Host-session=abc"], "abc"),
        ([b'a=1; __Host-session="abc"; b=2'], "abc"),
        ([b"a=1", b"__Host-session=a=b="], "a=b="),
        ([b"__Host-session="], None),
        ([b"__Host-sessions=abc; x__Host-session=abc; __host-session=abc"], None),
        ([b"__Host-session=a; __Host-session=b"], None),
        ([b"__Host-session=a", b"__Host-session=a"], None),
        ([b"__Host-session=" + b"a" * VALUE_MAX_BYTES], "a" * VALUE_MAX_BYTES),
        ([b"__Host-session=" + b"a" * (VALUE_MAX_BYTES + 1)], None),
        ([b"\xff;=;;__Host-session=\xe9"], "é"),
    ],
)
def test_finding_it(values: list[bytes], found: str | None) -> None:
    assert find_cookie([(b"host", b"a"), *((b"cookie", value) for value in values)], NAME) == found


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ([], False),
        ([(b"origin", b"https://a.example")], True),
        ([(b"sec-fetch-site", b"same-origin")], True),
        ([(b"sec-fetch-site", b"same-site")], False),
        ([(b"sec-fetch-site", b"none")], False),
        ([(b"sec-fetch-site", b"cross-site")], False),
        ([(b"sec-fetch-site", b"same-site"), (b"origin", b"https://a.example")], True),
        ([(b"origin", b"https://a.example"), (b"sec-fetch-site", b"cross-site")], False),
        ([(b"referer", b"https://a.example")], False),
    ],
)
def test_who_asks_must_be_known(headers: list[tuple[bytes, bytes]], is_known: bool) -> None:
    if is_known:
        check_asker(headers)
    else:
        with pytest.raises(AuthError):
            check_asker(headers)


def test_a_principal_lasts_one_look_and_is_the_same_at_the_next() -> None:
    alice = Principal(issuer="app", subject="alice", grants=(Grant("subscribe", "news"),))
    first, second = bounded(alice, 1_000.0), bounded(alice, 1_300.0)
    assert first.expires_at_s == 1_000.0 + LIFE_MAX_S
    assert first.token_hash == second.token_hash
    fewer = bounded(Principal(issuer="app", subject="alice"), 1_000.0)
    other = bounded(Principal(issuer="app", subject="bob", grants=alice.grants), 1_000.0)
    assert len({first.token_hash, fewer.token_hash, other.token_hash}) == 3
    ending = Principal(issuer="app", subject="alice", expires_at_s=1_010.0)
    assert bounded(ending, 1_000.0).expires_at_s == 1_010.0
