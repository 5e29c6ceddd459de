"""Refresh tokens that rotate (RFC 6749, section 6; RFC 9700, section 4.14.2).

Each is good for one use. One that comes again was stolen, by the one or by the other who showed it; which of them
cannot be known, so the whole sign-in ends.
"""

from __future__ import annotations

from authlib.oauth2.rfc6749.grants import RefreshTokenGrant  # type: ignore[import-untyped]

from hybrid.auth.development.signin import SignIn
from hybrid.auth.development.tokens import RefreshToken, TokenRecords


class Refreshing(RefreshTokenGrant):  # type: ignore[misc]
    """The grant, over the records."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    INCLUDE_NEW_REFRESH_TOKEN = True
    records: TokenRecords  # set on the subclass that an issuer makes

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """The token's record, if it can be used; a replay ends the sign-in."""
        record = self.records.refresh.get(refresh_token)
        if record is None:
            return None
        if record.is_used:
            self.records.was_replayed(record.sign_in, "a refresh token")
        return None if record.sign_in.is_over else record

    def authenticate_user(self, refresh_token: RefreshToken) -> SignIn:
        """Who signed in."""
        return refresh_token.sign_in

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """Called once everything else about the refresh is in order."""
        refresh_token.is_used = True
