"""The session cookie of an embedding application, as a credential: off unless that application asks for it.

A browser sends a cookie along whoever asks it to: another site's page can open a WebSocket, an event stream or a form
with it (cross-site WebSocket hijacking, CSRF). So a cookie counts only beside proof that a page of ours asks: an Origin
that may connect, or, where browsers send none, `Sec-Fetch-Site: same-origin` (Fetch Metadata, section 2.1). And it must
be called `__Host-...`: browsers take such a cookie over TLS only, for the whole host, and from no subdomain
(RFC 6265bis, section 4.1.3.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from hybrid.errors import AuthError, SettingsError
from hybrid.model import Principal

PREFIX: Final = "__Host-"
VALUE_MAX_BYTES: Final = 4_096
"""Of a cookie: what browsers keep (RFC 6265, section 6.1)."""
LIFE_MAX_S: Final = 600.0
"""How long a connection lives on one look at its cookie; then it comes back, and the session is looked at again."""


class CookieReader(Protocol):
    """Tells whom a cookie speaks for."""

    async def principal(self, value: str) -> Principal | None:
        """The principal of the session in this cookie; None where there is none, or nobody is signed in.

        Raises AuthError.
        """


def check_name(name: str) -> None:
    """Raises SettingsError for the name of a cookie that other hosts, or a page in the clear, could set."""
    rest = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or not rest.isascii() or not rest.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(
            detail=f"session_cookie: {name!r} is not accepted; the name must be {PREFIX} with letters, digits, - and _ "
            "behind it, so that browsers take it from this host over TLS only."
        )


def find_cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of the cookie of this name; None without one, or where it stands twice (somebody else set one)."""
    found = []
    for key, value in headers:
        if key == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                given, _, text = pair.strip(" \t").partition("=")
                if given == name:
                    found.append(text.strip('"'))
    return found[0] if len(found) == 1 and 0 < len(found[0]) <= VALUE_MAX_BYTES else None


def check_asker(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises AuthError origin_refused unless a page is known to ask. The door has let its Origin in, if it has one."""
    is_known = False
    for name, value in headers:
        if name == b"origin":
            is_known = True
        elif name == b"sec-fetch-site":
            if value == b"cross-site":
                raise AuthError("origin_refused", "A cookie does not count on a request that another site has caused.")
            is_known = is_known or value == b"same-origin"
    if not is_known:
        raise AuthError("origin_refused", "A cookie counts only on a request that a page is known to have made.")


def bounded(principal: Principal, now_s: float) -> Principal:
    """The principal of a cookie as sessions hold it: it ends after `LIFE_MAX_S`, and is the same one at every look.

    A cookie is signed anew with every answer. What the lists of polled sessions are sealed for is therefore not its
    value but what it permits.
    """
    rights = (principal.issuer, principal.subject, principal.client, principal.sign_in, principal.grants)
    return msgspec.structs.replace(
        principal,
        expires_at_s=min(principal.expires_at_s, now_s + LIFE_MAX_S),
        token_hash=sha256(msgspec.json.encode(rights)).digest()[:16],
    )
