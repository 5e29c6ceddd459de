"""Authlib's framework-neutral server, given plain mappings and giving plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from authlib.oauth2 import AuthorizationServer, OAuth2Request  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import OAuth2Payload  # type: ignore[import-untyped]

from hybrid.auth.development.clients import Client

JSON_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What to answer at an endpoint: a JSON object and headers; for a redirect the object is empty.

    Its repr shows neither: both hold credentials.
    """

    status: int
    body: Mapping[str, Any] = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)

    @property
    def location(self) -> str | None:
        """Where a redirect leads; None for any other answer."""
        return next((value for name, value in self.headers if name == "Location"), None)


def refusal(error: str, description: str = "", *, status: int = 400) -> TokenAnswer:
    """An error of RFC 6749, section 5.2."""
    body = {"error": error, **({"error_description": description} if description else {})}
    return TokenAnswer(status, body, JSON_HEADERS)


class Request(OAuth2Request):  # type: ignore[misc]
    """One request: the form of a POST, or the query of the authorization endpoint, each name once."""

    def __init__(self, fields: dict[str, str], headers: Mapping[str, str] | None = None, *, method: str = "POST"):
        # Authlib refuses plain http off loopback by this URL and uses it for nothing else here. Where the issuer may
        # listen was decided at start, by `check_loopback`, and once is enough.
        named = {name.title(): value for name, value in (headers or {}).items()}
        super().__init__(method, "https://localhost/", headers=named)
        self.payload = _Payload(fields)

    @property
    def form(self) -> dict[str, str]:
        """What was sent."""
        return self.payload.data

    @property
    def args(self) -> dict[str, str]:
        """Nothing: parameters of a URL are not looked at where a form is expected."""
        return {}


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    @property
    def data(self) -> dict[str, str]:
        return self._fields

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._fields.items()}


def read_fields(pairs: Iterable[tuple[str, str]]) -> dict[str, str] | None:
    """Parameters by name; None when one comes twice (RFC 6749, section 3.2: they must not)."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            return None
        fields[name] = value
    return fields


class Server(AuthorizationServer):  # type: ignore[misc]
    """Knows the clients; the grants and endpoints are registered by `issuer.py`."""

    def __init__(self, clients: Mapping[str, Client], lifetime_s: float) -> None:
        super().__init__()
        self.clients = clients
        self.lifetime_s = lifetime_s

    def query_client(self, client_id: str) -> Client | None:
        """The client of this id."""
        return self.clients.get(client_id)

    def save_token(self, token: Any, request: Any) -> None:
        """The generator has done so."""

    def send_signal(self, name: str, *arguments: Any, **options: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: Request) -> Request:
        """It is one already."""
        return request

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> TokenAnswer:
        """Authlib's three values as one."""
        return TokenAnswer(status, dict(body), tuple(headers))
