"""Revocation (RFC 7009) and introspection (RFC 7662): what becomes of a token, and what is known of it."""

from __future__ import annotations

from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError  # type: ignore[import-untyped]
from authlib.oauth2.rfc7009 import RevocationEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc7662 import IntrospectionEndpoint  # type: ignore[import-untyped]

from hybrid.auth.development.clients import Client
from hybrid.auth.development.tokens import AccessToken, RefreshToken, TokenRecords
from hybrid.clock import Clock

_INACTIVE: Final = {"active": False}


class Revoking(RevocationEndpoint):  # type: ignore[misc]
    """A refresh token takes its whole sign-in with it, an access token only itself (RFC 7009, section 2.1)."""

    CLIENT_AUTH_METHODS = ("none",)
    records: TokenRecords  # set on the subclass that an issuer makes

    def check_params(self, request: Any, client: Client) -> None:
        """A token must be there; an odd hint does no harm."""
        if not request.form.get("token"):
            raise InvalidRequestError("A token is needed.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> RefreshToken | AccessToken | None:
        """What is known of it."""
        # The hint is a hint: both shelves are one look.
        return self.records.refresh.get(token_string) or self.records.access.get(token_string)

    def revoke_token(self, token: RefreshToken | AccessToken, request: Any) -> None:
        """See the class."""
        if isinstance(token, RefreshToken):
            self.records.end_sign_in(token.sign_in)
        else:
            self.records.take_back(token)


class Introspecting(IntrospectionEndpoint):  # type: ignore[misc]
    """Tells a resource server about access tokens. Of anything else, refresh tokens included, it knows nothing.

    A resource server that was told that a refresh token is active would let it in.
    """

    CLIENT_AUTH_METHODS = ("client_secret_basic",)
    issuer: str  # these four are set on the subclass that an issuer makes
    audience: str
    records: TokenRecords
    clock: Clock

    def check_params(self, request: Any, client: Client) -> None:
        """A token must be there; an odd hint does no harm."""
        if not request.form.get("token"):
            raise InvalidRequestError("A token is needed.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> AccessToken | None:
        """What is known of it."""
        return self.records.access.get(token_string)

    def check_permission(self, token: AccessToken, client: Client, request: Any) -> bool:
        """True: no other client has a secret, and so none gets as far as this."""
        return True

    def create_introspection_payload(self, token: AccessToken | None) -> dict[str, Any]:
        """RFC 7662, section 2.2; not a word about why a token is inactive."""
        if token is None or token.is_revoked or token.expires_at_s <= self.clock.wall_s():
            return dict(_INACTIVE)
        return {
            "active": True,
            "iss": self.issuer,
            "sub": token.sign_in.subject,
            "aud": self.audience,
            "client_id": token.sign_in.client_id,
            "scope": token.scope,
            "token_type": "Bearer",
            "iat": token.issued_at_s,
            "exp": token.expires_at_s,
            "jti": token.token_id,
            "sid": token.sign_in.session_id,
        }
