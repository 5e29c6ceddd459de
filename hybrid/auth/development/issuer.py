"""The development issuer from outside: one method for each endpoint, plain values in and out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.common.urls import add_params_to_uri  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import OAuth2Error  # type: ignore[import-untyped]

from hybrid.auth.development.authorization import (
    AuthorizationCodes,
    AuthorizationRefused,
    Codes,
    ConsentRequest,
    RequiredChallenge,
)
from hybrid.auth.development.bounds import Bounds
from hybrid.auth.development.clients import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEMO_CLIENT,
    DEVICE_CODE,
    REFRESH_TOKEN,
    RESOURCE_SECRET,
    make_clients,
)
from hybrid.auth.development.credentials import ClientCredentials
from hybrid.auth.development.device import DeviceCodes, DeviceEndpoint, DeviceRequest, Devices
from hybrid.auth.development.keys import SigningKeys
from hybrid.auth.development.lookups import Introspecting, Revoking
from hybrid.auth.development.refresh import Refreshing
from hybrid.auth.development.server import Request, Server, TokenAnswer, read_fields, refusal
from hybrid.auth.development.signin import Revocation, SignIn
from hybrid.auth.development.tokens import TokenFormat, TokenGenerator, TokenRecords
from hybrid.auth.grants import ScopeError
from hybrid.auth.keys import StaticKeys
from hybrid.clock import Clock
from hybrid.errors import SettingsError

LIFETIME_S: Final = 900
"""Of an access token: long enough for a demo, short enough that refreshing is seen."""
FULL_SCOPE: Final = "hybrid:subscribe:* hybrid:publish:*"
"""What the clients may ask for, unless the caller says less."""

_WORDS: Final = {
    "invalid_client": "There is no such client here.",
    "invalid_request": "The request is not complete, or says something twice, or names a return address that the "
    "client has not registered.",
    "unsupported_response_type": "This server answers with a code only (response_type=code).",
}


class DevelopmentIssuer:
    """Issues tokens for one audience, publishes the keys to check them, and knows what became of them."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        clock: Clock,
        *,
        lifetime_s: int = LIFETIME_S,
        scope: str = FULL_SCOPE,
        seed: bytes | None = None,
        redirect_uris: Sequence[str] | None = None,
        token_format: TokenFormat = "jwt",
        resource_secret: str = RESOURCE_SECRET,
        bounds: Bounds | None = None,
        admin_scope: str = "",
    ) -> None:
        """`issuer` is the URL under which `web/issuer` serves it; `scope` the most that a client may get, `admin_scope`
        the most that who signs in on the page `/admin` may; nobody can, without it.

        Nodes with the same `seed` (32 random bytes) begin with the same key, so that each takes the others' tokens;
        codes, refresh tokens and devices stay with the node that made them. `redirect_uris` are those of the demo page,
        compared character by character; None stands for the root of the issuer's own host. Opaque tokens can be
        checked by introspection only, for which `resource_secret` is the password of the client `RESOURCE_CLIENT`.

        Raises SettingsError if the scope cannot be read.
        """
        logging.getLogger("authlib").setLevel(logging.INFO)  # at DEBUG it logs whole tokens
        bounds = bounds or Bounds()
        self.issuer: Final = issuer
        self.audience: Final = audience
        self.lifetime_s: Final = lifetime_s
        self._signing = SigningKeys(seed)
        if redirect_uris is None:
            parts = urlsplit(issuer)
            redirect_uris = (f"{parts.scheme}://{parts.netloc}/",)
        try:
            self._clients = make_clients(scope, redirect_uris, resource_secret, admin_scope)
        except ScopeError as error:
            raise SettingsError(detail=f"The development issuer's scope cannot be used: {error}.") from None
        self._records = TokenRecords(clock, bounds)
        self._devices = Devices(clock, bounds)
        self._generator = TokenGenerator(
            issuer, audience, self._signing, self._records, clock, lifetime_s=lifetime_s, token_format=token_format
        )
        self._server = self._make_server(clock, bounds)

    def _make_server(self, clock: Clock, bounds: Bounds) -> Server:
        # Authlib makes an instance of these for each request, and gives it nothing; what they need is on the class.
        server = Server(self._clients, self.lifetime_s)
        server.register_token_generator("default", self._generator)
        codes = Codes(clock, bounds, self._records)
        shared: dict[str, Any] = {"records": self._records, "devices": self._devices, "codes": codes, "clock": clock}
        shared |= {"issuer": self.issuer, "audience": self.audience}
        server.register_grant(type("_Codes", (AuthorizationCodes,), shared), [RequiredChallenge(required=True)])
        server.register_grant(type("_Refreshing", (Refreshing,), shared))
        server.register_grant(type("_DeviceCodes", (DeviceCodes,), shared))
        server.register_grant(ClientCredentials)
        told = {"EXPIRES_IN": int(bounds.device_lifetime_s), "INTERVAL": int(bounds.device_interval_s)}
        server.register_endpoint(type("_DeviceEndpoint", (DeviceEndpoint,), {**shared, **told}))
        server.register_endpoint(type("_Revoking", (Revoking,), shared))
        server.register_endpoint(type("_Introspecting", (Introspecting,), shared))
        return server

    # -- keys

    @property
    def keys(self) -> StaticKeys:
        """The public keys, for a verifier in this process."""
        return self._signing.public

    def rotate(self, *, keep: int = 1) -> None:
        """Sign with a new key from now on, and publish it with the `keep` newest ones before it."""
        self._signing.rotate(keep=keep)

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517, section 5), newest first."""
        return self._signing.as_jwks()

    # -- what this process does without asking

    def mint(self, subject: str, scope: str, *, lifetime_s: float | None = None, client: str = "cli") -> str:
        """A token for any subject and scope, without asking; for this process only."""
        lifetime_s = self.lifetime_s if lifetime_s is None else lifetime_s
        sign_in = SignIn(subject, client, scope, lifetime_s)
        return self._generator.access_token_generator(self._clients[client], CLIENT_CREDENTIALS, sign_in, scope)

    def on_revocation(self, tell: Callable[[Revocation], None]) -> None:
        """Call back whenever a token or a sign-in ends before its time. One callback; it must not raise."""
        self._records.tell = tell

    # -- endpoints for machines: a form in, a JSON object out

    def token_answer(self, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        """Answer a POST of a form to the token endpoint, errors included (RFC 6749, section 5). Never raises for it."""
        return self._answered(form, headers, self._server.create_token_response)

    def device_answer(self, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        """Answer at the device authorization endpoint (RFC 8628, section 3.2). Never raises for it."""
        return self._endpoint_answer("device_authorization", form, headers)

    def revocation_answer(self, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        """Answer at the revocation endpoint (RFC 7009): 200 for what is unknown as well. Never raises for it."""
        return self._endpoint_answer("revocation", form, headers)

    def introspection_answer(self, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        """Answer at the introspection endpoint (RFC 7662), for `RESOURCE_CLIENT` by HTTP Basic. Never raises for it."""
        return self._endpoint_answer("introspection", form, headers)

    def _endpoint_answer(self, name: str, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        return self._answered(form, headers, lambda request: self._server.create_endpoint_response(name, request))

    def _answered(
        self,
        form: Iterable[tuple[str, str]],
        headers: Mapping[str, str],
        create: Callable[[Request], Any],
    ) -> TokenAnswer:
        fields = read_fields(form)
        if fields is None:
            return refusal("invalid_request", "A parameter comes twice.")
        try:
            answer = create(Request(fields, headers))
        except OAuth2Error as error:
            answer = self._server.handle_error_response(None, error)
        except ValueError:
            # Authlib refuses to describe an error in words with characters that RFC 6749 forbids there.
            answer = refusal("invalid_request")
        assert isinstance(answer, TokenAnswer)
        return answer

    # -- the pages: authorization requests

    def consent_request(self, query: Iterable[tuple[str, str]]) -> ConsentRequest | TokenAnswer:
        """What to ask the person for an authorization request (RFC 6749, section 4.1.1), or the redirect to answer.

        A redirect is made only to a checked URI, for what the client did wrong; it carries `state` and `iss`.
        Raises AuthorizationRefused where there is no URI to trust.
        """
        checked = self._checked_grant(query)
        if isinstance(checked, TokenAnswer):
            return checked
        grant, fields = checked
        return ConsentRequest(
            client_id=grant.client.client_id,
            client_title=grant.client.title,
            scope=grant.request.scope,
            redirect_uri=grant.redirect_uri,
            login_hint=fields.get("login_hint", ""),
        )

    def consent_answer(self, query: Iterable[tuple[str, str]], subject: str | None) -> TokenAnswer:
        """The redirect after the person decided: as `subject`, or None to deny (RFC 6749, section 4.1.2).

        The request is checked again. Raises AuthorizationRefused as `consent_request` does.
        """
        checked = self._checked_grant(query)
        if isinstance(checked, TokenAnswer):
            return checked
        grant, _ = checked
        sign_in = None
        if subject is not None:
            sign_in = SignIn(subject, grant.client.client_id, grant.request.scope, self.lifetime_s)
        answer = self._server.create_authorization_response(grant.request, sign_in, grant)
        return self._with_issuer(answer)

    def _checked_grant(self, query: Iterable[tuple[str, str]]) -> tuple[Any, dict[str, str]] | TokenAnswer:
        fields = read_fields(query)
        if fields is None:
            raise AuthorizationRefused("invalid_request", _WORDS["invalid_request"])
        try:
            return self._server.get_consent_grant(Request(fields, method="GET")), fields
        except OAuth2Error as error:
            if error.redirect_uri:
                return self._with_issuer(self._server.handle_error_response(None, error))
            words = _WORDS.get(error.error, "The request cannot be carried out.")
            raise AuthorizationRefused(error.error, words) from None
        except ValueError:  # see `_answered`
            raise AuthorizationRefused("invalid_request", _WORDS["invalid_request"]) from None

    def _with_issuer(self, answer: TokenAnswer) -> TokenAnswer:
        """With `iss` in the redirect, so that a client of several issuers knows whose answer it is (RFC 9207)."""
        assert answer.location is not None
        location: str = add_params_to_uri(answer.location, [("iss", self.issuer)])
        return TokenAnswer(303, {}, (("Location", location), ("Cache-Control", "no-store")))

    # -- the pages: devices

    def device_request(self, user_code: str) -> DeviceRequest | None:
        """The device that shows this code and waits, or None. Raises TooManyGuesses."""
        return self._devices.find(user_code)

    def decide_device(self, user_code: str, subject: str | None) -> DeviceRequest | None:
        """Let the device in as `subject`, or deny it (None). Returns it, or None if it waits no more.

        Raises TooManyGuesses.
        """
        request = self._devices.find(user_code)
        if request is None:
            return None
        if subject is None:
            request.is_denied = True
        else:
            request.sign_in = SignIn(subject, request.client_id, request.scope, self.lifetime_s)
        return request

    # -- metadata

    def metadata(self) -> dict[str, Any]:
        """The authorization server's metadata (RFC 8414, section 2)."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device_authorization",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "introspection_endpoint": f"{self.issuer}/introspect",
            "jwks_uri": f"{self.issuer}/jwks.json",
            "scopes_supported": self._clients[DEMO_CLIENT].scope.split(),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE, CLIENT_CREDENTIALS],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
        }
