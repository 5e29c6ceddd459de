"""A configured map from what issuers put into tokens to channels, for issuers whose scopes speak of other things.

    a rule: when (a scope, or a claim with a value, or always) -> patterns to subscribe to, patterns to publish to

`{name}` in a pattern stands for the claim of that name, so that `user:{sub}` is everybody's own. Its value is
percent-encoded: no value can add a `*`, nor a `:` that makes somebody's channels look like another one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from hybrid.auth.grants import GRANTS_MAX, Action, ScopeError, filled, names_in, parse_pattern, scopes_to_grants
from hybrid.model import Grant

VALUES_MAX: Final = 1_024
"""Of one claim that is a list: groups and roles of one user."""
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class GrantRule:
    """When a token has `scope`, or at `claim` (a path with dots) `value`; always when neither is given.

    Without `value` any value but null, false and emptiness will do. `subscribe` and `publish` are the patterns
    permitted then; `revoke` permits to revoke tokens, and `manage` what it names as scopes do without their `hybrid:`.
    """

    scope: str = ""
    claim: str = ""
    value: str = ""
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    revoke: bool = False
    manage: tuple[str, ...] = ()

    def applies(self, scopes: Iterable[str], claims: Mapping[str, Any]) -> bool:
        """Whether a token with these is meant."""
        if self.scope:
            return self.scope in scopes
        if not self.claim:
            return True
        found = _at(claims, self.claim)
        if not self.value:
            return found is not _MISSING and found not in (None, False, "", [], {})
        held = found[:VALUES_MAX] if isinstance(found, list) else [found]
        return any(_text(item) == self.value for item in held)


def rules_to_grants(rules: Iterable[GrantRule], scopes: Iterable[str], claims: Mapping[str, Any]) -> tuple[Grant, ...]:
    """The grants of all rules that apply. A pattern that names a claim which the token lacks grants nothing.

    Raises ScopeError for more than `GRANTS_MAX` of them.
    """
    grants: dict[Grant, None] = {}
    held = frozenset(scopes)
    for rule in rules:
        if not rule.applies(held, claims):
            continue
        parts: tuple[tuple[Action, tuple[str, ...]], ...] = (("subscribe", rule.subscribe), ("publish", rule.publish))
        for action, patterns in parts:
            for pattern in patterns:
                names = {name: _text(_at(claims, name)) for name in names_in(pattern)}
                if all(names.values()):
                    with suppress(ScopeError):  # no channel can have so long a name
                        grants[Grant(action, parse_pattern(filled(pattern, names)))] = None
        if rule.revoke:
            grants[Grant("revoke", "*")] = None
        for grant in scopes_to_grants(" ".join(f"hybrid:{what}" for what in rule.manage)):
            grants[grant] = None
        if len(grants) > GRANTS_MAX:
            raise ScopeError(f"more than {GRANTS_MAX} grants")
    return tuple(grants)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:  # names of claims are often URLs, with dots in them
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _text(value: Any) -> str:
    """A claim as text; empty for what has no one spelling."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else ""
