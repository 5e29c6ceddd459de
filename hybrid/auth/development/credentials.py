"""The client credentials grant (RFC 6749, section 4.4), for programs that speak for themselves.

We deviate from that section on purpose, which reserves the grant to confidential clients: here whoever asks gets.
"""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError, InvalidScopeError  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # type: ignore[import-untyped]

from hybrid.auth.development.signin import SUBJECT_MAX_CHARACTERS, SignIn, guest


class ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc]
    """Each token is a sign-in of its own. `subject` says for whom, where the client may choose; else a new guest."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def generate_token(self, **arguments: Any) -> Any:
        """A token for a sign-in that begins here."""
        scope = self.client.get_allowed_scope(self.request.payload.scope)
        if scope is None:
            raise InvalidScopeError
        sign_in = SignIn(self._subject(), self.client.client_id, scope, self.server.lifetime_s)
        return super().generate_token(user=sign_in, **arguments)

    def _subject(self) -> str:
        asked: str | None = self.request.payload.data.get("subject")
        if asked is None:
            return guest()
        if not self.client.can_choose_subject:
            raise InvalidRequestError("This client cannot choose its subject.")
        if not 0 < len(asked) <= SUBJECT_MAX_CHARACTERS or not asked.isprintable():
            raise InvalidRequestError("The subject is too long or has characters that it may not have.")
        return asked
