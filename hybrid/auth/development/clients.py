"""The clients that exist from the start. Nobody registers here."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from authlib.oauth2.rfc6749 import ClientMixin  # type: ignore[import-untyped]

from hybrid.auth.grants import ScopeError, is_covered, scopes_to_grants

AUTHORIZATION_CODE: Final = "authorization_code"
CLIENT_CREDENTIALS: Final = "client_credentials"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_TOKEN: Final = "refresh_token"

DEMO_CLIENT: Final = "demo"
ADMIN_CLIENT: Final = "admin"
CLI_CLIENT: Final = "cli"
RESOURCE_CLIENT: Final = "resource-server"
RESOURCE_SECRET: Final = "development-only"
"""No secret at all, but RFC 7662, section 2.1, wants one. Whoever can reach this issuer can have any token anyway."""


class Client(ClientMixin):  # type: ignore[misc]
    """A client. `title` is what the pages call it."""

    def __init__(
        self,
        client_id: str,
        title: str,
        scope: str,
        grant_types: Sequence[str],
        *,
        can_choose_subject: bool = False,
        redirect_uris: Sequence[str] = (),
        secret: str = "",
    ) -> None:
        """A `secret` makes it one that introspects and nothing else. Raises ScopeError if the scope is unreadable."""
        self.client_id = client_id
        self.title = title
        self.scope = scope
        self.can_choose_subject = can_choose_subject
        self._grant_types = frozenset(grant_types)
        self._redirect_uris = frozenset(redirect_uris)
        self._secret = secret
        self._grants = scopes_to_grants(scope)

    def get_client_id(self) -> str:
        """Its `client_id`."""
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

    def get_default_redirect_uri(self) -> None:
        """None: it is always named, so that it can always be compared."""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Character by character (RFC 9700, section 4.1.3)."""
        return redirect_uri in self._redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is the secret, in constant time."""
        return bool(self._secret) and hmac.compare_digest(self._secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """One with a secret shows it, and introspects only; the others are public."""
        if self._secret:
            return bool(method == "client_secret_basic" and endpoint == "introspection")
        return bool(method == "none" and endpoint != "introspection")

    def check_response_type(self, response_type: str) -> bool:
        """Codes only, and only for who has a page to return to."""
        return response_type == "code" and AUTHORIZATION_CODE in self._grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may use this grant."""
        return grant_type in self._grant_types


def make_clients(
    scope: str, redirect_uris: Sequence[str], resource_secret: str, admin_scope: str = ""
) -> dict[str, Client]:
    """All of them, by id; `scope` is the most that each may have, `admin_scope` that of the page `/admin`, which is no
    client without it. Raises ScopeError if one cannot be read.
    """
    made = [
        Client(
            DEMO_CLIENT,
            "The demo page",
            scope,
            (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS),
            redirect_uris=redirect_uris,
        ),
        Client(  # `hybrid token`, tests, benchmarks
            CLI_CLIENT,
            "The hybrid command",
            scope,
            (CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN),
            can_choose_subject=True,
        ),
        Client(RESOURCE_CLIENT, "A resource server", "", (), secret=resource_secret),
    ]
    if admin_scope:
        grants = (AUTHORIZATION_CODE, REFRESH_TOKEN)  # always a person
        pages = [f"{uri}admin" for uri in redirect_uris if uri.endswith("/")]
        made.append(Client(ADMIN_CLIENT, "The admin page", admin_scope, grants, redirect_uris=pages))
    return {client.client_id: client for client in made}
