"""Verified claims -> Principal: names, times, bindings, and every way to grant."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.auth.claims import NAME_MAX_BYTES, ClaimsReader, Refusal
from hybrid.auth.details import DETAILS_MAX
from hybrid.auth.grants import GRANTS_MAX, MANAGING_SCOPES, ScopeError, encoded_name, grant_to_scope, scopes_to_grants
from hybrid.auth.rules import VALUES_MAX, GrantRule
from hybrid.model import Grant, Principal

READ, WRITE = "subscribe", "publish"


def principal(*rules: GrantRule, is_introspected: bool = False, **claims: Any) -> Principal:
    reader = ClaimsReader("https://id.example", rules=rules)
    return reader.principal({"sub": "alice", **claims}, "token", is_introspected=is_introspected)


def test_what_a_token_tells_of_itself() -> None:
    found = principal(client_id="app", jti="t1", sid="s1", iat=1_000, exp=2_000.5)
    assert (found.subject, found.client, found.token_id, found.sign_in) == ("alice", "app", "t1", "s1")
    assert (found.issued_at_s, found.expires_at_s) == (1_000.0, 2_000.5)
    assert principal(azp="web").client == "web"
    assert (principal().issued_at_s, principal().expires_at_s) == (0.0, float("inf"))


@pytest.mark.parametrize("name", ["sub", "client_id", "jti", "sid"])
@pytest.mark.parametrize("value", [7, None, ["a"], "line\nbreak", "\u202eevil", "\ud800", "a" * (NAME_MAX_BYTES + 1)])
def test_names_that_cannot_be_written_anywhere_refuse_the_token(name: str, value: object) -> None:
    with pytest.raises(Refusal):
        principal(**{name: value})
    assert principal(**{name: "a" * NAME_MAX_BYTES})


@pytest.mark.parametrize("name", ["exp", "iat"])
@pytest.mark.parametrize("value", [None, "1000", True, float("nan"), float("inf"), [1]])
def test_times_that_are_none_refuse_the_token(name: str, value: object) -> None:
    with pytest.raises(Refusal):
        principal(**{name: value})


def test_a_machine_that_was_introspected_may_have_no_subject_but_its_client() -> None:
    reader = ClaimsReader("https://id.example")
    assert reader.principal({"client_id": "robot"}, "t", is_introspected=True).subject == "robot"
    with pytest.raises(KeyError):
        reader.principal({"client_id": "robot"}, "t")
    for claims in ({}, {"sub": ""}, {"client_id": ""}):
        with pytest.raises(Refusal):
            reader.principal(claims, "t", is_introspected=True)


def test_a_bound_token_tells_the_key() -> None:
    thumbprint = "a" * 43
    assert principal(cnf={"jkt": thumbprint}).proof_key == thumbprint
    assert principal().proof_key == ""


@pytest.mark.parametrize(
    "confirmation",
    [None, {}, "x", {"x5t#S256": "a" * 43}, {"jkt": "a" * 42}, {"jkt": 7}, {"jkt": "a" * 43, "x5t#S256": "b" * 43}],
)
def test_a_binding_that_cannot_be_proven_here_refuses_the_token(confirmation: object) -> None:
    with pytest.raises(Refusal):
        principal(cnf=confirmation)


# -- scopes


def test_one_s_own_channel_in_a_scope() -> None:
    found = principal(scope="hybrid:subscribe:user:{sub} hybrid:publish:app:{client_id}:*", client_id="web")
    assert found.grants == (Grant(READ, "user:alice"), Grant(WRITE, "app:web:*"))
    assert principal(scope="hybrid:subscribe:user:{sub}", sub="bob").grants == (Grant(READ, "user:bob"),)


@pytest.mark.parametrize(
    ("subject", "channel"),
    [
        ("*", "user:%2A"),
        ("alice:admin", "user:alice%3Aadmin"),
        ("{client_id}", "user:%7Bclient_id%7D"),
        ("100%", "user:100%25"),
        ("auth0|5f7c", "user:auth0|5f7c"),
        ("kim@example.com", "user:kim@example.com"),
        ("é", "user:%C3%A9"),
        ("a b", "user:a%20b"),
    ],
)
def test_no_subject_becomes_a_wildcard_or_another_s_prefix(subject: str, channel: str) -> None:
    assert principal(scope="hybrid:subscribe:user:{sub}", sub=subject).grants == (Grant(READ, channel),)
    assert principal(GrantRule(subscribe=("user:{sub}",)), sub=subject).grants == (Grant(READ, channel),)
    details = [{"type": "hybrid_channels", "actions": [READ], "channels": ["user:{sub}"]}]
    assert principal(authorization_details=details, sub=subject).grants == (Grant(READ, channel),)
    assert channel == f"user:{encoded_name(subject)}"


def test_a_wildcard_right_behind_a_name_refuses_the_token() -> None:
    """Kim would be given the channels of kimberly."""
    details = [{"type": "hybrid_channels", "actions": [READ], "channels": ["user:{sub}*"]}]
    for claims in (
        {"scope": "hybrid:subscribe:user:{sub}*"},
        {"scope": "hybrid:publish:{client_id}*", "client_id": "app"},
        {"authorization_details": details},
    ):
        with pytest.raises(Refusal, match="kimberly"):
            principal(**claims)
    assert principal(GrantRule(subscribe=("user:{sub}*", "news"))).grants == (Grant(READ, "news"),)
    assert principal(scope="hybrid:subscribe:user:{sub}:*").grants == (Grant(READ, "user:alice:*"),)


def test_a_client_that_is_not_named_refuses_a_scope_that_names_it() -> None:
    with pytest.raises(Refusal, match="empty"):
        principal(scope="hybrid:publish:app:{client_id}")


def test_other_braces_are_part_of_a_name() -> None:
    assert principal(scope="hybrid:subscribe:a:{b} hybrid:subscribe:%7Bsub%7D").grants == (
        Grant(READ, "a:{b}"),
        Grant(READ, "{sub}"),
    )


def test_the_scope_that_permits_to_revoke() -> None:
    assert principal(scope="hybrid:revoke").grants == (Grant("revoke", "*"),)
    assert scopes_to_grants("hybrid:revoke:x hybrid:revok hybrid:revoke*") == ()


@pytest.mark.parametrize("scope", MANAGING_SCOPES)
def test_the_scopes_of_who_manages_the_server(scope: str) -> None:
    [grant] = principal(scope=scope).grants
    assert (grant.action, grant.pattern) == (scope.split(":")[1], "*")
    assert grant_to_scope(grant) == scope
    assert principal(GrantRule(manage=(scope.removeprefix("hybrid:"),))).grants == (grant,)
    if scope.endswith(":*"):
        [narrow] = principal(scope=f"{scope[:-1]}chat%3Aa:*").grants
        assert narrow == Grant(grant.action, "chat:a:*")
        with pytest.raises(ScopeError):
            scopes_to_grants(scope[:-1])
    else:
        assert scopes_to_grants(f"{scope}:x {scope}* {scope}s") == ()


def test_scopes_in_a_list() -> None:
    assert principal(scope=["hybrid:publish:a", "openid"]).grants == (Grant(WRITE, "a"),)
    for odd in (7, ["a", 7], {"a": 1}, None):
        with pytest.raises(Refusal):
            principal(scope=odd)


# -- authorization_details (RFC 9396)


def detail(**more: Any) -> dict[str, Any]:
    return {"type": "hybrid_channels", "actions": [READ, WRITE], "channels": ["chat:*"], **more}


def test_authorization_details_grant_beside_scopes() -> None:
    others = {"type": "payment_initiation", "amount": 1}
    found = principal(scope="hybrid:subscribe:news", authorization_details=[others, detail(channels=["chat:*", "a"])])
    assert set(found.grants) == {
        Grant(READ, "news"),
        *(Grant(action, pattern) for action in (READ, WRITE) for pattern in ("chat:*", "a")),
    }


@pytest.mark.parametrize(
    "details",
    [
        None,
        {},
        "x",
        ["x"],
        [{}],
        [{"type": 7}],
        [{"type": "hybrid_channels"}],
        [detail(actions=[])],
        [detail(actions=["administer"])],
        [detail(actions="subscribe")],
        [detail(actions=[READ, 7])],
        [detail(actions=[[READ]])],
        [detail(channels=[])],
        [detail(channels=[""])],
        [detail(channels=["a*b"])],
        [detail(channels=["a**"])],
        [detail(channels=["a" * 256])],
        [detail(channels=["a", None])],
        [detail(channels=["a"] * (GRANTS_MAX + 1))],
        [detail(channels=[f"c{n}" for n in range(GRANTS_MAX // 2 + 1)])],
        [detail(locations=["https://other.example"])],
        [detail(), detail(actions=["x"])],
        [detail()] * (DETAILS_MAX + 1),
    ],
)
def test_details_that_cannot_be_understood_refuse_the_token(details: object) -> None:
    with pytest.raises(Refusal):
        principal(authorization_details=details)


def test_details_at_their_bounds() -> None:
    assert len(principal(authorization_details=[detail()] * DETAILS_MAX).grants) == 2
    found = principal(authorization_details=[detail(channels=[f"c{n}" for n in range(GRANTS_MAX // 2)])])
    assert len(found.grants) == GRANTS_MAX


# -- rules


@pytest.mark.parametrize(
    ("rule", "claims", "is_granted"),
    [
        (GrantRule(), {}, True),
        (GrantRule(scope="chat"), {"scope": "openid chat"}, True),
        (GrantRule(scope="chat"), {"scope": "chatter"}, False),
        (GrantRule(claim="role", value="admin"), {"role": "admin"}, True),
        (GrantRule(claim="role", value="admin"), {"role": "user"}, False),
        (GrantRule(claim="role", value="admin"), {}, False),
        (GrantRule(claim="roles", value="admin"), {"roles": ["user", "admin"]}, True),
        (GrantRule(claim="roles", value="admin"), {"roles": ["administrator"]}, False),
        (GrantRule(claim="roles", value="admin"), {"roles": ["x"] * VALUES_MAX + ["admin"]}, False),
        (GrantRule(claim="realm_access.roles", value="a"), {"realm_access": {"roles": ["a"]}}, True),
        (GrantRule(claim="realm_access.roles", value="a"), {"realm_access": "a"}, False),
        (GrantRule(claim="https://x.example/roles", value="a"), {"https://x.example/roles": ["a"]}, True),
        (GrantRule(claim="email_verified", value="true"), {"email_verified": True}, True),
        (GrantRule(claim="email_verified"), {"email_verified": False}, False),
        (GrantRule(claim="email_verified"), {"email_verified": True}, True),
        (GrantRule(claim="level", value="3"), {"level": 3}, True),
        (GrantRule(claim="org"), {"org": []}, False),
        (GrantRule(claim="org"), {"org": "acme"}, True),
    ],
)
def test_when_a_rule_applies(rule: GrantRule, claims: dict[str, Any], is_granted: bool) -> None:
    made = GrantRule(rule.scope, rule.claim, rule.value, subscribe=("chat:*",), publish=("chat:lobby",))
    wanted = (Grant(READ, "chat:*"), Grant(WRITE, "chat:lobby")) if is_granted else ()
    assert principal(made, **claims).grants == wanted


def test_patterns_take_any_claim() -> None:
    rule = GrantRule(subscribe=("org:{org.id}:*", "user:{sub}"), publish=("team:{team}",), revoke=True)
    found = principal(rule, org={"id": 7}, team="a:b")
    assert found.grants == (
        Grant(READ, "org:7:*"),
        Grant(READ, "user:alice"),
        Grant(WRITE, "team:a%3Ab"),
        Grant("revoke", "*"),
    )


@pytest.mark.parametrize("org", [None, "", [], ["a"], {"a": 1}, 1.5])
def test_a_pattern_whose_claim_is_missing_or_odd_grants_nothing(org: object) -> None:
    assert principal(GrantRule(subscribe=("org:{org}:*", "news")), org=org).grants == (Grant(READ, "news"),)
    assert principal(GrantRule(subscribe=("org:{org}:*",))).grants == ()


def test_a_name_that_no_channel_can_have_grants_nothing() -> None:
    rule = GrantRule(subscribe=("user:{sub}", "news"))
    assert principal(rule, sub="é" * 100).grants == (Grant(READ, "news"),)


def test_too_many_grants_by_rules_refuse_the_token() -> None:
    rule = GrantRule(subscribe=tuple(f"c{n}" for n in range(GRANTS_MAX)))
    assert len(principal(rule).grants) == GRANTS_MAX
    with pytest.raises(Refusal):
        principal(rule, GrantRule(publish=("one",)))


def test_channels_that_a_token_names_may_be_read() -> None:
    reader = ClaimsReader("https://id.example", channels_claim="rooms")
    claims = {"sub": "alice", "scope": "hybrid:publish:a"}
    found = reader.principal({**claims, "rooms": ["b", "a", "b"]}, "token")
    assert found.channels == ("b", "a")
    assert found.grants == (Grant(WRITE, "a"), Grant(READ, "b"), Grant(READ, "a"))
    for none in ({}, {"rooms": []}, {"channels": ["a"]}):
        other = reader.principal({**claims, **none}, "token")
        assert (other.channels, other.grants) == ((), (Grant(WRITE, "a"),))
    assert principal(channels=["a"]).channels == (), "deny by default: without the setting no claim counts"


@pytest.mark.parametrize("value", ["a", [7], [""], ["a*"], ["x" * 256], ["x"] * (GRANTS_MAX + 1), {"a": 1}, True])
def test_channels_that_cannot_be_read_refuse_the_token(value: Any) -> None:
    reader = ClaimsReader("https://id.example", channels_claim="rooms")
    with pytest.raises(Refusal, match="channel"):
        reader.principal({"sub": "alice", "rooms": value}, "token")
