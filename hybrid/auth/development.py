"""An authorization server for development: no accounts, no secrets, keys in memory only. Never for production.

It exists so that one command shows everything and so that tests and benchmarks have tokens. It speaks OAuth 2.0's
client credentials grant (RFC 6749, section 4.4) for two public clients and issues RFC 9068 access tokens. We deviate
from that section on purpose, which reserves the grant to confidential clients: whoever can reach this server may have a
token. That is why `check_loopback` keeps it on this machine unless told otherwise in so many words.

Everything is synchronous: one ES256 signature takes 35 us, so no thread is worth its switch.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from authlib.oauth2 import AuthorizationServer, OAuth2Request  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    ClientMixin,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Payload,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, KeyParameters, KeySet

from hybrid.auth.grants import ScopeError, is_covered, scopes_to_grants
from hybrid.auth.keys import StaticKeys
from hybrid.clock import Clock
from hybrid.errors import SettingsError

LIFETIME_S: Final = 900
"""Of a token: long enough for a demo, short enough that refreshing is seen."""
FULL_SCOPE: Final = "hybrid:subscribe:* hybrid:publish:*"
"""What the clients may ask for, unless the caller says less."""
SUBJECT_MAX_CHARACTERS: Final = 64
"""Of a subject that a client asks for."""

_USE: Final[KeyParameters] = {"use": "sig", "alg": "ES256"}
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The number of points of the curve (SEC 2, section 2.4.2): private keys are the whole numbers below it, from 1."""
_JSON_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What to answer at the token endpoint: a JSON object and headers."""

    status: int
    body: Mapping[str, Any]
    headers: Sequence[tuple[str, str]]


def check_loopback(host: str, allow: bool) -> None:
    """Raise SettingsError if a server with the development issuer would listen beyond this machine.

    `host` is what it binds to: an address, a name or `unix:` and a path. `allow` is the flag that says so be it.
    """
    if allow or host.startswith("unix:") or host.lower() == "localhost":
        return
    try:
        is_loopback = ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False  # a name can point anywhere, and no name at all means every interface
    if not is_loopback:
        raise SettingsError(
            detail=f"The development issuer gives a token to anybody who asks. It does not start on {host!r}: bind to "
            "127.0.0.1, or allow it in so many words."
        )


def _seeded_key(seed: bytes) -> ECKey:
    number = 1 + int.from_bytes(seed, "big") % (_P256_ORDER - 1)
    private = ec.derive_private_key(number, ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = ECKey.import_key(pem, _USE)
    key.ensure_kid()
    return key


class DevelopmentIssuer:
    """Issues tokens for one audience and publishes the keys to check them."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        clock: Clock,
        *,
        lifetime_s: int = LIFETIME_S,
        scope: str = FULL_SCOPE,
        seed: bytes | None = None,
    ) -> None:
        """`issuer` is the URL under which `web/issuer.py` serves it; `scope` the most that a client may get.

        Nodes with the same `seed` (32 random bytes) begin with the same key, so that each takes the others' tokens.

        Raises SettingsError if the scope cannot be read.
        """
        logging.getLogger("authlib").setLevel(logging.INFO)  # at DEBUG it logs whole tokens
        self.issuer: Final = issuer
        self.audience: Final = audience
        self.lifetime_s: Final = lifetime_s
        self.keys: Final = StaticKeys()
        self._keys: list[ECKey] = []
        try:
            clients = (
                _Client("demo", scope, can_choose_subject=False),  # browsers on the demo page
                _Client("cli", scope, can_choose_subject=True),  # `hybrid token`, tests, benchmarks
            )
        except ScopeError as error:
            raise SettingsError(detail=f"The development issuer's scope cannot be used: {error}.") from None
        self._clients = {client.client_id: client for client in clients}
        self._generator = _Generator(self, clock)
        self._server = _Server(self._clients, self._generator)
        self._begin(ECKey.generate_key("P-256", _USE, auto_kid=True) if seed is None else _seeded_key(seed), keep=0)

    def rotate(self, *, keep: int = 1) -> None:
        """Sign with a new key from now on, and publish it with the `keep` newest ones before it."""
        self._begin(ECKey.generate_key("P-256", _USE, auto_kid=True), keep=keep)

    def _begin(self, key: ECKey, *, keep: int) -> None:
        self._keys = [key, *self._keys[:keep]]
        self.keys.replace(self._keys)

    @property
    def signing_keys(self) -> KeySet:
        """The active key. In a set, because only from a set does Authlib write the key's id into the token."""
        return KeySet([self._keys[0]])

    def mint(self, subject: str, scope: str, *, lifetime_s: float | None = None, client: str = "cli") -> str:
        """A token for any subject and scope, without asking; for this process only."""
        token = self._generator.access_token_generator(
            client=self._clients[client],
            grant_type="client_credentials",
            user=_Subject(subject, self.lifetime_s if lifetime_s is None else lifetime_s),
            scope=scope,
        )
        return str(token)

    def token_answer(self, form: Iterable[tuple[str, str]], headers: Mapping[str, str]) -> TokenAnswer:
        """Answer a POST of a form to the token endpoint, errors included (RFC 6749, section 5). Never raises for it."""
        fields: dict[str, str] = {}
        for name, value in form:
            if name in fields:  # RFC 6749, section 3.2: parameters must not be included more than once
                return TokenAnswer(400, {"error": "invalid_request"}, _JSON_HEADERS)
            fields[name] = value
        try:
            answer = self._server.create_token_response(_Request(fields, headers))
        except OAuth2Error as error:
            answer = self._server.handle_error_response(None, error)
        except ValueError:
            # Authlib refuses to describe an error in words with characters that RFC 6749 forbids there.
            answer = TokenAnswer(400, {"error": "invalid_request"}, _JSON_HEADERS)
        assert isinstance(answer, TokenAnswer)
        return answer

    def metadata(self) -> dict[str, Any]:
        """The authorization server's metadata (RFC 8414, section 2)."""
        return {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks.json",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": [],
            "scopes_supported": self._clients["demo"].scope.split(),
        }

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517, section 5), newest first."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}


@dataclass(frozen=True, slots=True)
class _Subject:
    """Who a token will speak for, and for how long; Authlib's "user"."""

    name: str
    lifetime_s: float

    def get_user_id(self) -> str:
        return self.name


class _Client(ClientMixin):  # type: ignore[misc]
    """A public client that exists from the start."""

    def __init__(self, client_id: str, scope: str, *, can_choose_subject: bool) -> None:
        self.client_id = client_id
        self.scope = scope
        self.can_choose_subject = can_choose_subject
        self._grants = scopes_to_grants(scope)

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """All that it may have when it asks for nothing; None (an error) when it asks for more than it may."""
        if not scope:
            return self.scope
        try:
            asked = scopes_to_grants(scope)
        except ScopeError:
            return None
        is_ours = all(item.startswith("hybrid:") for item in scope.split())
        return scope if is_ours and asked and all(any(is_covered(a, g) for g in self._grants) for a in asked) else None

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "none" and endpoint == "token"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    @property
    def data(self) -> dict[str, str]:
        return self._fields

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._fields.items()}


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, fields: dict[str, str], headers: Mapping[str, str]) -> None:
        # Authlib refuses plain http off loopback by this URL and uses it for nothing else here. Where the issuer may
        # listen was decided at start, by `check_loopback`, and once is enough.
        super().__init__("POST", "https://localhost/", headers=headers)
        self.payload = _Payload(fields)

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data

    @property
    def args(self) -> dict[str, str]:
        return {}


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def generate_token(self, **arguments: Any) -> Any:
        return super().generate_token(user=self._subject(), **arguments)

    def _subject(self) -> _Subject:
        asked = self.request.payload.data.get("subject")
        lifetime_s = self.server.lifetime_s
        if asked is None:
            return _Subject(f"guest-{secrets.token_hex(4)}", lifetime_s)
        if not self.client.can_choose_subject:
            raise InvalidRequestError("This client cannot choose its subject.")
        if not 0 < len(asked) <= SUBJECT_MAX_CHARACTERS or not asked.isprintable():
            raise InvalidRequestError("The subject is too long or has characters that it may not have.")
        return _Subject(asked, lifetime_s)


class _Generator(JWTBearerTokenGenerator):  # type: ignore[misc]
    def __init__(self, owner: DevelopmentIssuer, clock: Clock) -> None:
        # Without `expires_generator` a client credentials token would be announced to live for ten days.
        super().__init__(owner.issuer, alg="ES256", expires_generator=lambda client, grant_type: owner.lifetime_s)
        self.owner = owner
        self._clock = clock

    def get_jwks(self) -> KeySet:
        return self.owner.signing_keys

    def get_audiences(self, client: Any, user: Any, scope: Any) -> str:
        return self.owner.audience

    def get_extra_claims(self, client: Any, grant_type: str, user: _Subject, scope: str) -> dict[str, Any]:
        # Replaces the times that the base class took from the machine's clock.
        now_s = int(self._clock.wall_s())
        return {"iat": now_s, "exp": now_s + int(user.lifetime_s)}


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, clients: Mapping[str, _Client], generator: _Generator) -> None:
        super().__init__()
        self._clients = clients
        self.lifetime_s = generator.owner.lifetime_s
        self.register_grant(_Grant)
        self.register_token_generator("default", generator)

    def query_client(self, client_id: str) -> _Client | None:
        return self._clients.get(client_id)

    def save_token(self, token: Any, request: Any) -> None:
        """Tokens speak for themselves; nothing is stored."""

    def send_signal(self, name: str, *arguments: Any, **options: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> TokenAnswer:
        return TokenAnswer(status, dict(body), tuple(headers))
