"""The credential of a request, and the challenge in the answer (RFC 6750, RFC 9449). Pure functions on raw ASGI values.

Nothing here quotes what a client sent: neither an error nor a challenge can carry a token out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from hybrid.auth.dpop import ALGORITHMS as PROOF_ALGORITHMS
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
    "proof_refused": "invalid_dpop_proof",
    "token_refused": "invalid_token",
    "token_expired": "invalid_token",
    "principal_changed": "invalid_token",
    "forbidden": "insufficient_scope",
    "forbidden_or_revoked": "insufficient_scope",
}


class Credential(NamedTuple):
    """What a request shows: a token, and with the DPoP scheme a proof of possession beside it."""

    token: str
    proof: str | None = None

    def __repr__(self) -> str:
        return "Credential(...)"  # what is printed for a log or a debugger must not hold a credential


def find_credential(headers: Iterable[tuple[bytes, bytes]]) -> Credential | None:
    """The token of the `Authorization` header; None where there is no such header.

    `headers` are ASGI's: pairs of bytes, names in lower case. Raises AuthError `bad_request` for two headers or a
    malformed one, `unauthorized` for a scheme other than Bearer and DPoP, `proof_refused` for DPoP without exactly one
    proof (RFC 9449, section 4.3). The token's length is the verifier's to judge.
    """
    values, proofs = [], []
    for name, value in headers:
        if name == b"authorization":
            values.append(value)
        elif name == b"dpop":
            proofs.append(value)
    if not values:
        return None
    if len(values) > 1:
        raise AuthError("bad_request", "Send one Authorization header only.")
    name, _, rest = values[0].strip(b" \t").partition(b" ")
    scheme = name.lower()
    if not _SCHEME.fullmatch(name):
        raise AuthError("bad_request", "The Authorization header is malformed.")
    if scheme not in (b"bearer", b"dpop"):
        raise AuthError("unauthorized", "The Bearer or DPoP scheme is needed here.")
    token = rest.strip(b" ")
    if not _B64TOKEN.fullmatch(token):
        raise AuthError("bad_request", "The Authorization header is malformed.")
    if scheme == b"bearer":
        return Credential(token.decode("ascii"))
    if len(proofs) != 1:
        raise AuthError("proof_refused", "The DPoP scheme needs one DPoP header with a proof.")
    return Credential(token.decode("ascii"), proofs[0].strip(b" \t").decode("latin-1"))


def shows_proof(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request uses the DPoP scheme, so that it is to be answered in its terms (RFC 9449, section 7.1)."""
    return any(name == b"authorization" and value[:5].lower() == b"dpop " for name, value in headers)


def checked_query(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query, none of which is a token by its name or its look (RFC 9700, section 4.3.2).

    What is in a URL ends up in logs, histories and Referer headers; a ticket is made for that, a token is not. Bytes
    that are no UTF-8 stand in the result as lone surrogates (PEP 383). Raises AuthError `bad_request`.
    """
    if not query:
        return []
    if query.count(b"&") >= QUERY_FIELDS_MAX:
        raise AuthError("bad_request", "The query has too many parameters.")
    text = query.decode("ascii", "surrogateescape")
    if "%" in text or "+" in text:
        fields = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    else:  # nearly always: there is nothing to decode, and a cursor makes each poll's query another one
        parts = [field.partition("=") for field in text.split("&") if field]
        fields = [(name, value) for name, _, value in parts]
    for name, value in fields:
        looks_like_one = ("." in value and _JWT.fullmatch(value.strip())) or (
            "." in name and _JWT.fullmatch(name.strip())
        )
        if looks_like_one or name.strip().lower() in _TOKEN_NAMES:
            raise AuthError(
                "bad_request", "A token must not be in a URL: use the Authorization header, or ask for a ticket."
            )
    return fields


def www_authenticate(error: HybridError, *, resource_metadata: str = "", with_proof: bool = False) -> str:
    """The value of the `WWW-Authenticate` header that belongs to an error; empty where none does.

    Only AuthError and a forbidden channel are about credentials. `resource_metadata` is the URL of our protected
    resource metadata (RFC 9728, section 5.1). `with_proof` names the DPoP scheme instead of Bearer. The result is one
    line of visible ASCII and spaces.
    """
    code = _CODES.get(error.row.name) if isinstance(error, (AuthError, ChannelError)) else None
    if code is None:
        return ""
    with_proof = with_proof or error.row.name == "proof_refused"
    parameters = []
    if code:
        parameters += [f'error="{code}"', f"error_description={_quoted(str(error))}"]
    if isinstance(error, AuthError) and error.scope:
        parameters.append(f"scope={_quoted(error.scope)}")
    if with_proof:
        parameters.append(f"algs={_quoted(' '.join(PROOF_ALGORITHMS))}")
    if resource_metadata:
        parameters.append(f"resource_metadata={_quoted(resource_metadata)}")
    scheme = "DPoP" if with_proof else "Bearer"
    return f"{scheme} {', '.join(parameters)}" if parameters else scheme


def _quoted(text: str) -> str:
    # RFC 6750, section 3, allows neither " nor \ in these values even when escaped, but other parameters may need
    # them; what is not visible ASCII could end the header line or be unreadable on the way.
    visible = "".join(character for character in text if " " <= character <= "~")
    return '"' + visible.replace("\\", "\\\\").replace('"', '\\"') + '"'
