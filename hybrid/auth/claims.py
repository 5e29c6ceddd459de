"""Verified claims -> Principal: the same for a JWT and for what an issuer answers when it is asked about a token.

Claims are believed by now, but not their shapes: whatever is odd refuses the whole token, because what was meant can
then only be guessed. The words of a refusal are for the log and hold nothing from the token.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from hybrid.auth.channels import channels_of, with_channels
from hybrid.auth.details import details_to_grants
from hybrid.auth.grants import ScopeError, names_in, scopes_to_grants
from hybrid.auth.rules import GrantRule, rules_to_grants
from hybrid.model import Grant, Principal

NAME_MAX_BYTES: Final = 255
"""Of subject, client, token id and sign-in (OpenID Connect Core 1.0, section 2, bounds `sub` so)."""
SCOPES_MAX: Final = 1_024
"""Different scopes whose grants are shared between principals."""
SHARED_SCOPE_MAX_CHARACTERS: Final = 1_024
"""A longer scope is hardly shared by two tokens."""
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Refusal(Exception):
    """Why a token is not accepted; for the log, in words that hold nothing from the token."""


class ClaimsReader:
    """Reads the claims of one issuer's tokens.

    `scope_claim` names the one that holds the scopes: text, or a list. `channels_claim` names the one that lists the
    channels that sessions begin with; without a name there is none.
    """

    def __init__(
        self,
        issuer: str,
        *,
        scope_claim: str = "scope",
        channels_claim: str = "",
        rules: tuple[GrantRule, ...] = (),
    ) -> None:
        self._issuer = issuer
        self._scope_claim = scope_claim
        self._channels_claim = channels_claim
        self._rules = rules
        self._shared: dict[str, tuple[Grant, ...]] = {}

    def principal(self, claims: Mapping[str, Any], token: str, *, is_introspected: bool = False) -> Principal:
        """Whom these claims speak for. `token` is ASCII. Raises Refusal."""
        client = name_of(claims.get("client_id", claims.get("azp", "")))
        subject = name_of(claims["sub"] if "sub" in claims or not is_introspected else client)
        if not subject:
            raise Refusal("no subject")
        channels = self._channels(claims)
        return Principal(
            issuer=self._issuer,
            subject=subject,
            client=sys.intern(client),
            grants=with_channels(self._grants(claims, {"sub": subject, "client_id": client}), channels),
            expires_at_s=time_of(claims, "exp", math.inf),
            token_id=name_of(claims.get("jti", "")),
            token_hash=token_hash(token),
            sign_in=name_of(claims.get("sid", "")),
            issued_at_s=time_of(claims, "iat", 0.0),
            proof_key=_proof_key(claims),
            is_introspected=is_introspected,
            channels=channels,
        )

    def _channels(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        if not self._channels_claim:
            return ()
        try:
            return channels_of(claims.get(self._channels_claim))
        except ScopeError as error:
            raise Refusal(f"channels: {error}") from None

    def _grants(self, claims: Mapping[str, Any], names: Mapping[str, str]) -> tuple[Grant, ...]:
        scope = claims.get(self._scope_claim, "")
        if isinstance(scope, list) and all(isinstance(item, str) for item in scope):
            scope = " ".join(scope)
        if not isinstance(scope, str):
            raise Refusal("a scope that is no text")
        try:
            grants = self._of_scope(scope, names)
            if "authorization_details" in claims:
                grants += details_to_grants(claims["authorization_details"], names)
            if self._rules:
                grants += rules_to_grants(self._rules, scope.split(" "), claims)
        except ScopeError as error:
            raise Refusal(f"scope: {error}") from None
        return grants

    def _of_scope(self, scope: str, names: Mapping[str, str]) -> tuple[Grant, ...]:
        if names_in(scope):
            return scopes_to_grants(scope, names)
        grants = self._shared.get(scope)
        if grants is None:
            grants = scopes_to_grants(scope)
            if len(scope) <= SHARED_SCOPE_MAX_CHARACTERS:
                if len(self._shared) >= SCOPES_MAX:
                    del self._shared[next(iter(self._shared))]
                self._shared[scope] = grants
        return grants


def token_hash(token: str) -> bytes:
    """What an ASCII token is known by: 128 bits of its SHA-256, of which nobody finds a second text."""
    return sha256(token.encode("ascii")).digest()[:16]


def time_of(claims: Mapping[str, Any], name: str, default: float) -> float:
    """A time of the claims, in Unix seconds. Raises Refusal for what is no time.

    NaN above all: it compares false with every time, and so would never expire.
    """
    value = claims.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Refusal(f"an {name} that is no time")
    if name in claims and not math.isfinite(value):
        raise Refusal(f"an {name} that is no time")
    return float(value)


def name_of(value: object) -> str:
    """A name, which travels into logs, presence and seals: no controls, no bidirectional tricks, no lone surrogates.

    Raises Refusal.
    """
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > NAME_MAX_BYTES:
        raise Refusal("a name that is no text, too long or not printable")
    return value


def _proof_key(claims: Mapping[str, Any]) -> str:
    """The key that the token is bound to (RFC 7800, section 3.1). Raises Refusal for a kind that cannot be proven here.

    A token of such a kind, taken for a bearer token, might be a stolen one.
    """
    if "cnf" not in claims:
        return ""
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or confirmation.keys() != {"jkt"}:
        raise Refusal("bound in a way that cannot be proven here")
    thumbprint = confirmation["jkt"]
    if not isinstance(thumbprint, str) or not _THUMBPRINT.fullmatch(thumbprint):
        raise Refusal("bound to what is no thumbprint")
    return thumbprint
