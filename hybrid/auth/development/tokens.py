"""Access and refresh tokens: how they are made, and what is kept of each."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator  # type: ignore[import-untyped]
from joserfc.jwk import KeySet

from hybrid.auth.development.bounds import Bounds
from hybrid.auth.development.clients import Client
from hybrid.auth.development.keys import ALGORITHM, SigningKeys
from hybrid.auth.development.shelf import Shelf
from hybrid.auth.development.signin import Revocation, SignIn
from hybrid.clock import Clock

TokenFormat = Literal["jwt", "opaque"]

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class AccessToken:
    """What is known of an access token. Times are whole Unix seconds; `scope` may be less than the sign-in's."""

    sign_in: SignIn
    scope: str
    issued_at_s: int
    expires_at_s: int
    token_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    is_taken_back: bool = False

    def get_user_id(self) -> str:
        """The `sub` of the token, for Authlib."""
        return self.sign_in.subject

    def check_client(self, client: Client) -> bool:
        """Whether it was made for this client."""
        return self.sign_in.client_id == client.client_id

    @property
    def is_revoked(self) -> bool:
        """Whether it, or its whole sign-in, was ended."""
        return self.is_taken_back or self.sign_in.is_over


@dataclass(eq=False, slots=True)
class RefreshToken:
    """What is known of a refresh token, for as long as a replay of it would tell something."""

    sign_in: SignIn
    is_used: bool = False

    def check_client(self, client: Client) -> bool:
        """Whether it was made for this client."""
        return self.sign_in.client_id == client.client_id

    def get_scope(self) -> str:
        """The most that a refresh may ask for (RFC 6749, section 6)."""
        return self.sign_in.scope


class TokenRecords:
    """All tokens that are known, by their text, and who is told when one ends before its time."""

    def __init__(self, clock: Clock, bounds: Bounds) -> None:
        self.access: Final = Shelf[AccessToken](clock, size_max=bounds.access_tokens_max, lifetime_s=0.0)
        self.refresh: Final = Shelf[RefreshToken](
            clock, size_max=bounds.refresh_tokens_max, lifetime_s=bounds.refresh_lifetime_s
        )
        self.tell: Callable[[Revocation], None] = _nobody

    def end_sign_in(self, sign_in: SignIn) -> None:
        """Revoke every token of it."""
        sign_in.end(self.tell)

    def was_replayed(self, sign_in: SignIn, what: str) -> None:
        """A credential that can be used once came again: end the sign-in, and say so in the log."""
        if not sign_in.is_over:
            _log.warning("%s of client %s came a second time; its sign-in is ended", what, sign_in.client_id)
        self.end_sign_in(sign_in)

    def take_back(self, token: AccessToken) -> None:
        """Revoke this one; what else came of the sign-in stays (RFC 7009, section 2.1)."""
        if not token.is_revoked:
            token.is_taken_back = True
            self.tell(Revocation(token_id=token.token_id))


class TokenGenerator(JWTBearerTokenGenerator):  # type: ignore[misc]
    """Makes what the token endpoint answers. Authlib's "user" is a `SignIn` here."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        keys: SigningKeys,
        records: TokenRecords,
        clock: Clock,
        *,
        lifetime_s: int,
        token_format: TokenFormat,
    ) -> None:
        # Without `expires_generator` a client credentials token would be announced to live for ten days.
        super().__init__(
            issuer,
            alg=ALGORITHM,
            refresh_token_generator=self.refresh_token_generator,
            expires_generator=lambda client, grant_type: lifetime_s,
        )
        self._audience = audience
        self._keys = keys
        self._records = records
        self._clock = clock
        self._format = token_format

    def generate(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The answer of RFC 6749, section 5.1, with `sub` in it: the pages show who is signed in."""
        answer: dict[str, Any] = super().generate(*arguments, **options)
        sign_in = options.get("user") or arguments[2]
        return {**answer, "sub": sign_in.subject}

    def access_token_generator(self, client: Client, grant_type: str, user: SignIn, scope: str) -> str:
        """An access token, and its record. Its id, times and session are ours, not Authlib's."""
        now_s = int(self._clock.wall_s())
        record = AccessToken(user, scope, now_s, now_s + int(user.lifetime_s))
        if self._format == "jwt":
            text = str(super().access_token_generator(client, grant_type, record, scope))
        else:
            text = secrets.token_urlsafe(32)
        self._records.access.put(text, record, lifetime_s=max(0.0, user.lifetime_s))
        return text

    def refresh_token_generator(self, client: Client, grant_type: str, user: SignIn, scope: str) -> str:
        """A refresh token of the sign-in, and its record."""
        text = secrets.token_urlsafe(32)
        self._records.refresh.put(text, RefreshToken(user))
        return text

    def get_jwks(self) -> KeySet:
        """See `SigningKeys.active`."""
        return self._keys.active

    def get_audiences(self, client: Any, user: Any, scope: Any) -> str:
        """The resource server; Authlib would name the client."""
        return self._audience

    def get_extra_claims(self, client: Any, grant_type: str, user: AccessToken, scope: str) -> dict[str, Any]:
        """What is written over the base class's claims: times by our clock, and ids that are kept."""
        return {
            "iat": user.issued_at_s,
            "exp": user.expires_at_s,
            "jti": user.token_id,
            "sid": user.sign_in.session_id,
        }


def _nobody(revocation: Revocation) -> None:
    pass
