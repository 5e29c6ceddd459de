"""The authorization code grant (RFC 6749, section 4.1), with PKCE (RFC 7636) that cannot be left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from authlib.oauth2.rfc6749 import InvalidRequestError  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import CodeChallenge  # type: ignore[import-untyped]

from hybrid.auth.development.bounds import Bounds
from hybrid.auth.development.clients import Client
from hybrid.auth.development.shelf import Shelf
from hybrid.auth.development.signin import SignIn
from hybrid.auth.development.tokens import TokenRecords
from hybrid.clock import Clock

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 in base64url (RFC 7636, section 4.2)."""


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """A checked authorization request: what the person has to be asked. `redirect_uri` is one of the client's own."""

    client_id: str
    client_title: str
    scope: str
    redirect_uri: str
    login_hint: str = ""


class AuthorizationRefused(Exception):
    """An authorization request that must not be answered with a redirect, since its target cannot be trusted.

    `error` is a code of RFC 6749, section 4.1.2.1; the words are for the person in front of the browser.
    """

    def __init__(self, error: str, words: str) -> None:
        super().__init__(error)
        self.error = error
        self.words = words


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """What a code stands for."""

    client_id: str
    redirect_uri: str
    sign_in: SignIn
    code_challenge: str = field(repr=False)
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str:
        """For Authlib, which compares it with that of the token request."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What was consented to."""
        return self.sign_in.scope


class Codes:
    """Codes that were not used yet, and the sign-ins of those that were."""

    def __init__(self, clock: Clock, bounds: Bounds, records: TokenRecords) -> None:
        self._open = Shelf[AuthorizationCode](clock, size_max=bounds.codes_max, lifetime_s=bounds.code_lifetime_s)
        self._spent = Shelf[SignIn](clock, size_max=bounds.spent_codes_max, lifetime_s=bounds.refresh_lifetime_s)
        self._records = records

    def put(self, text: str, code: AuthorizationCode) -> None:
        """Keep a new code."""
        self._open.put(text, code)

    def use(self, text: str, client: Client) -> AuthorizationCode | None:
        """The code, once, whatever becomes of it; a second use ends the sign-in (RFC 6749, section 4.1.2).

        It is used up by a wrong client or a wrong verifier as well: who has it has stolen it.
        """
        code = self._open.pop(text)
        if code is None:
            if (sign_in := self._spent.get(text)) is not None:
                self._records.was_replayed(sign_in, "an authorization code")
            return None
        self._spent.put(text, code.sign_in)
        return code if code.client_id == client.client_id else None


class RequiredChallenge(CodeChallenge):  # type: ignore[misc]
    """PKCE by S256 (RFC 9700, section 2.1.1). By itself Authlib takes `plain`, and requests without a challenge."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse an authorization request without a good challenge; the redirect tells the client."""
        fields: dict[str, str] = grant.request.payload.data
        if "code_challenge" not in fields:
            raise InvalidRequestError("A code_challenge is needed (RFC 7636).")
        if fields.get("code_challenge_method") != "S256":
            raise InvalidRequestError("The code_challenge_method must be S256.")
        if not _CHALLENGE.fullmatch(fields["code_challenge"]):
            raise InvalidRequestError("The code_challenge is not a SHA-256 in base64url.")
        super().validate_code_challenge(grant, redirect_uri)


class AuthorizationCodes(AuthorizationCodeGrant):  # type: ignore[misc]
    """The grant, over `Codes`; Authlib's "user" is the sign-in that the person's consent makes."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    codes: Codes  # set on the subclass that an issuer makes

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Keep the code with the sign-in that was consented to."""
        self.codes.put(
            code,
            AuthorizationCode(
                client_id=request.client.client_id,
                redirect_uri=request.payload.redirect_uri,
                sign_in=request.user,
                code_challenge=request.payload.data["code_challenge"],
            ),
        )

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode | None:
        """Use the code up."""
        return self.codes.use(code, client)

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """It went when it was looked up, before anything could go wrong."""

    def authenticate_user(self, authorization_code: AuthorizationCode) -> SignIn:
        """Who signed in."""
        return authorization_code.sign_in
