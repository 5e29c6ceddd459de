"""Finds where an issuer publishes its keys and is asked about tokens: RFC 8414, then OpenID Connect Discovery 1.0.

For an issuer with a path the two put the well-known part in different places (before and behind the path), and both
are in use, so both are asked. Third parties' metadata is often not quite valid; only what is needed here is judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hybrid.auth.fetch import FetchError

Fetch = Callable[[str], Awaitable[dict[str, Any]]]


async def find_endpoint(issuer: str, name: str, fetch: Fetch) -> str:
    """The URL under `name` (`jwks_uri`, `introspection_endpoint`) in the metadata of a configured issuer.

    A document that names another issuer is not used: it would put that one's keys under this one's name
    (RFC 8414, section 3.3). Raises FetchError. Cancel-safe.
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
        endpoint = document.get(name)
        if document.get("issuer") != issuer:
            reasons.append(f"{url}: is about another issuer")
        elif not isinstance(endpoint, str):
            reasons.append(f"{url}: has no {name}")
        else:
            return endpoint
    raise FetchError("; ".join(reasons))
