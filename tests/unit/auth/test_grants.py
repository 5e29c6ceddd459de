from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.auth.grants import (
    GRANTS_MAX,
    ScopeError,
    grant_to_scope,
    is_covered,
    is_granted,
    scopes_to_grants,
)
from hybrid.model import Grant, Principal

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*"), min_size=1, max_size=60)


def principal(scope: str) -> Principal:
    return Principal(issuer="i", subject="s", grants=scopes_to_grants(scope))


def test_exact_names_and_prefixes_are_read() -> None:
    assert scopes_to_grants("hybrid:subscribe:news hybrid:publish:chat:* hybrid:subscribe:*") == (
        Grant("subscribe", "news"),
        Grant("publish", "chat:*"),
        Grant("subscribe", "*"),
    )


def test_scopes_of_others_and_unknown_actions_are_ignored() -> None:
    assert scopes_to_grants("openid profile hybrid hybrid: hybrid:admin:x HYBRID:subscribe:a  ") == ()
    assert scopes_to_grants("") == ()


def test_names_that_a_scope_cannot_hold_are_percent_encoded() -> None:
    assert scopes_to_grants("hybrid:subscribe:caf%C3%A9%20%22x%22%25*") == (Grant("subscribe", 'café "x"%*'),)


@pytest.mark.parametrize(
    "pattern", ["", "a*b", "**", "a%", "a%2", "a%zz", "a%2A", "a%FF", 'a"b', "a\\b", "é", "a\x7f", "a\nb", "%00*" * 2]
)
def test_a_malformed_pattern_makes_the_scope_unusable(pattern: str) -> None:
    with pytest.raises(ScopeError) as caught:
        scopes_to_grants(f"hybrid:subscribe:good hybrid:subscribe:{pattern}")
    assert "good" not in str(caught.value)


def test_the_number_of_grants_is_bounded() -> None:
    fitting = " ".join(f"hybrid:subscribe:c{n}" for n in range(GRANTS_MAX))
    assert len(scopes_to_grants(fitting)) == GRANTS_MAX
    assert len(scopes_to_grants(f"{fitting} hybrid:subscribe:c0")) == GRANTS_MAX  # repeats do not count
    with pytest.raises(ScopeError):
        scopes_to_grants(f"{fitting} hybrid:subscribe:one-more")


def test_the_length_of_a_pattern_is_bounded_in_bytes() -> None:
    assert scopes_to_grants("hybrid:subscribe:" + "a" * 255)[0].pattern == "a" * 255
    assert scopes_to_grants("hybrid:subscribe:" + "a" * 255 + "*")[0].pattern == "a" * 255 + "*"
    for too_long in ("a" * 256, "%C3%A9" * 128):
        with pytest.raises(ScopeError):
            scopes_to_grants("hybrid:subscribe:" + too_long)


def test_a_grant_is_for_its_action_and_its_channels_only() -> None:
    someone = principal("hybrid:subscribe:news hybrid:publish:chat:*")
    assert is_granted(someone, "subscribe", "news")
    assert is_granted(someone, "publish", "chat:1")
    assert is_granted(someone, "publish", "chat:")
    for action, channel in (
        ("publish", "news"),
        ("subscribe", "chat:1"),
        ("subscribe", "news2"),
        ("subscribe", "new"),
        ("publish", "chat"),
        ("publish", "Chat:1"),
    ):
        assert not is_granted(someone, action, channel)  # type: ignore[arg-type]


def test_covering() -> None:
    chat = Grant("subscribe", "chat:*")
    assert is_covered(Grant("subscribe", "chat:1"), chat)
    assert is_covered(Grant("subscribe", "chat:a*"), chat)
    assert is_covered(chat, chat)
    assert not is_covered(Grant("subscribe", "chat*"), chat)
    assert not is_covered(Grant("publish", "chat:1"), chat)
    assert not is_covered(Grant("subscribe", "news"), Grant("subscribe", "new"))


@given(NAMES, st.sampled_from(["subscribe", "publish"]), st.booleans())
def test_a_grant_survives_the_way_through_a_scope(name: str, action: str, is_prefix: bool) -> None:
    grant = Grant(action, name + "*" if is_prefix else name)
    scope = grant_to_scope(grant)
    assert scope.isascii()
    assert not set(scope) & set(' "\\')
    assert scopes_to_grants(f"openid {scope}") == (grant,)


@given(st.text(max_size=200))
def test_no_text_does_anything_but_give_grants_or_a_scope_error(text: str) -> None:
    for scope in (text, f"hybrid:subscribe:{text}"):
        try:
            grants = scopes_to_grants(scope)
        except ScopeError:
            continue
        assert all(len(grant.pattern.encode()) <= 256 for grant in grants)


@given(NAMES, NAMES)
def test_covering_means_permitting_whatever_is_covered(prefix: str, name: str) -> None:
    wide, narrow = Grant("subscribe", prefix + "*"), Grant("subscribe", name)
    holder = Principal(issuer="i", subject="s", grants=(wide,))
    assert is_covered(narrow, wide) == is_granted(holder, "subscribe", name)
