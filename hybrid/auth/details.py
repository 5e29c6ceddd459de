"""What `authorization_details` permit (RFC 9396): the same grants as scopes, for issuers that speak of objects.

    {"type": "hybrid_channels", "actions": ["subscribe", "publish"], "channels": ["chat:*", "user:{sub}"]}

Objects of other types are somebody else's and are ignored (RFC 9396, section 5, leaves them to those who know them);
one of ours that cannot be read makes the whole token unusable, as a scope of ours does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hybrid.auth.grants import GRANTS_MAX, Action, ScopeError, filled, parse_pattern
from hybrid.model import Grant

TYPE: Final = "hybrid_channels"
DETAILS_MAX: Final = 64
"""Objects of one token, of whatever types."""
_ACTIONS: Final[tuple[Action, ...]] = ("subscribe", "publish")
_MEMBERS: Final = frozenset(("type", "actions", "channels"))


def details_to_grants(details: object, names: Mapping[str, str]) -> tuple[Grant, ...]:
    """The grants of a token's `authorization_details`; `names` fill `{sub}` and `{client_id}`. Raises ScopeError."""
    if not isinstance(details, list) or len(details) > DETAILS_MAX:
        raise ScopeError(f"authorization_details that are no list of at most {DETAILS_MAX}")
    grants: dict[Grant, None] = {}
    for item in details:
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            raise ScopeError("authorization_details with an entry without a type")
        if item["type"] != TYPE:
            continue
        if item.keys() != _MEMBERS:
            # A member that we do not know may be meant to permit less.
            raise ScopeError(f"authorization_details of ours with other members than {', '.join(sorted(_MEMBERS))}")
        actions, channels = _texts(item["actions"]), _texts(item["channels"])
        if not set(actions) <= set(_ACTIONS):
            raise ScopeError("authorization_details of ours with an unknown action")
        for channel in channels:
            pattern = parse_pattern(filled(channel, names))
            for action in actions:
                grants[Grant(action, pattern)] = None
        if len(grants) > GRANTS_MAX:
            raise ScopeError(f"more than {GRANTS_MAX} grants")
    return tuple(grants)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or len(value) > GRANTS_MAX:
        raise ScopeError(f"authorization_details of ours with a list that is none, or not of 1 to {GRANTS_MAX}")
    if not all(isinstance(item, str) for item in value):
        raise ScopeError("authorization_details of ours with a list of other things than texts")
    return value
