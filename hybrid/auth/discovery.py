"""Finds where an issuer publishes its keys: RFC 8414, then OpenID Connect Discovery 1.0.

For an issuer with a path the two put the well-known part in different places (before and behind the path), and both
are in use, so both are asked. Third parties' metadata is often not quite valid; only what is needed here is judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hybrid.auth.fetch import FetchError

Fetch = Callable[[str], Awaitable[dict[str, Any]]]


async def find_jwks_url(issuer: str, fetch: Fetch) -> str:
    """The `jwks_uri` from the metadata of a configured issuer. Raises FetchError. Cancel-safe.

    A document that names another issuer is not used: it would put that one's keys under this one's name
    (RFC 8414, section 3.3).
    """
    from authlib.oauth2.rfc8414 import get_well_known_url as oauth_url  # type: ignore[import-untyped]
    from authlib.oidc.discovery import get_well_known_url as openid_url  # type: ignore[import-untyped]

    reasons = []
    for url in (oauth_url(issuer, external=True), openid_url(issuer, external=True)):
        try:
            document = await fetch(url)
        except FetchError as error:
            reasons.append(str(error))
            continue
        jwks_url = document.get("jwks_uri")
        if document.get("issuer") != issuer:
            reasons.append(f"{url}: is about another issuer")
        elif not isinstance(jwks_url, str):
            reasons.append(f"{url}: has no jwks_uri")
        else:
            return jwks_url
    raise FetchError("; ".join(reasons))
