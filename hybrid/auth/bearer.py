"""The credential of a request, and the challenge in the answer (RFC 6750). Pure functions on raw ASGI values.

Nothing here quotes what a client sent: neither an error nor a challenge can carry a token out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from hybrid.errors import AuthError, ChannelError, HybridError

QUERY_FIELDS_MAX: Final = 64
"""Parameters of one query; the longest of ours has 16 names and a handful of options."""

_B64TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_JWT: Final = re.compile(r"(?:bearer\s+)?eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.IGNORECASE)
_TOKEN_NAMES: Final = frozenset(
    ("access_token", "accesstoken", "token", "id_token", "refresh_token", "jwt", "bearer", "auth", "authorization")
)
_CODES: Final = {
    "unauthorized": "",  # RFC 6750, section 3.1: no error code where no credential was shown
    "bad_request": "invalid_request",
    "token_refused": "invalid_token",
    "token_expired": "invalid_token",
    "principal_changed": "invalid_token",
    "forbidden": "insufficient_scope",
    "forbidden_or_revoked": "insufficient_scope",
}


def find_bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token of the `Authorization` header; None where there is no such header.

    `headers` are ASGI's: pairs of bytes, names in lower case. Raises AuthError `bad_request` for two headers or a
    malformed one, `unauthorized` for a scheme other than Bearer. The token's length is the verifier's to judge.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise AuthError("bad_request", "Send one Authorization header only.")
    scheme, _, rest = values[0].strip(b" \t").partition(b" ")
    if not _SCHEME.fullmatch(scheme):
        raise AuthError("bad_request", "The Authorization header is malformed.")
    if scheme.lower() != b"bearer":
        raise AuthError("unauthorized", "The Bearer scheme is needed here.")
    token = rest.strip(b" ")
    if not _B64TOKEN.fullmatch(token):
        raise AuthError("bad_request", "The Authorization header is malformed.")
    return token.decode("ascii")


def refuse_query_tokens(query: bytes) -> None:
    """Raise AuthError `bad_request` if a query holds a token, by name or by look (RFC 9700, section 4.3.2).

    What is in a URL ends up in logs, histories and Referer headers; a ticket is made for that, a token is not.
    """
    if not query:
        return
    try:
        fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise AuthError("bad_request", "The query is malformed or has too many parameters.") from None
    for name, value in fields:
        if name.strip().lower() in _TOKEN_NAMES or _JWT.fullmatch(value.strip()) or _JWT.fullmatch(name.strip()):
            raise AuthError(
                "bad_request", "A token must not be in a URL: use the Authorization header, or ask for a ticket."
            )


def www_authenticate(error: HybridError, *, resource_metadata: str = "") -> str:
    """The value of the `WWW-Authenticate` header that belongs to an error; empty where none does.

    Only AuthError and a forbidden channel are about credentials. `resource_metadata` is the URL of our protected
    resource metadata (RFC 9728, section 5.1). The result is one line of visible ASCII and spaces.
    """
    code = _CODES.get(error.row.name) if isinstance(error, (AuthError, ChannelError)) else None
    if code is None:
        return ""
    parameters = []
    if code:
        parameters += [f'error="{code}"', f"error_description={_quoted(str(error))}"]
    if isinstance(error, AuthError) and error.scope:
        parameters.append(f"scope={_quoted(error.scope)}")
    if resource_metadata:
        parameters.append(f"resource_metadata={_quoted(resource_metadata)}")
    return f"Bearer {', '.join(parameters)}" if parameters else "Bearer"


def _quoted(text: str) -> str:
    # RFC 6750, section 3, allows neither " nor \ in these values even when escaped, but other parameters may need
    # them; what is not visible ASCII could end the header line or be unreadable on the way.
    visible = "".join(character for character in text if " " <= character <= "~")
    return '"' + visible.replace("\\", "\\\\").replace('"', '\\"') + '"'
