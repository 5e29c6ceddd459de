"""Proofs of possession: that who shows a token holds the key it is bound to (RFC 9449).

A proof is a JWT made for one request: signed with the key that stands in its own header, it names the method, the URL
and the token. It can travel only where a header can be set, so a bound token opens sessions over HTTP, WebSocket
handshakes of native clients, and tickets; a frame cannot prove anything, and a bound token in one is refused.

What is wrong with a proof is not told in detail; the log says it at DEBUG, without anything from the proof.
"""

from __future__ import annotations

import json
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from hybrid.clock import Clock
from hybrid.errors import AuthError

logger = logging.getLogger(__name__)

ALGORITHMS: Final = ("ES256", "ES384", "PS256", "RS256", "Ed25519", "EdDSA")
"""Of proofs; told in challenges (RFC 9449, section 5.1)."""
PROOF_MAX_BYTES: Final = 4_096
"""Of one proof: an RSA key of 4096 bits and its signature take half of it."""
AGE_MAX_S: Final = 60.0
"""How far a proof's time may lie from ours, in either direction: it is made for each request."""
ID_MAX_CHARACTERS: Final = 256
RSA_BITS: Final = range(2_048, 4_097)
_EXPONENT: Final = 65_537
_MEMBERS: Final = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
"""What makes a key of each kind, and its thumbprint (RFC 7638, section 3.2)."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Proof(NamedTuple):
    """A proof that holds, for a request with one token. `key` is the thumbprint (RFC 7638) to compare with the token's.

    It counts only once `ProofDesk.use_up` has taken it.
    """

    key: str
    id: bytes


class ProofStore(Protocol):
    """Which proofs were used; implemented beside the broker, so that none is used twice at two nodes."""

    async def first_use(self, proof_id: bytes, key: str, ttl_s: float) -> bool:
        """Remember a proof of a key for `ttl_s` seconds; False if it was remembered before. Atomic.

        Raises BrokerError; LimitError where there is no room for more, or for more of this key.
        """


class ProofDesk:
    """Checks proofs, and takes each one once."""

    def __init__(self, store: ProofStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._registry = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)

    def claimed_key(self, text: str) -> str:
        """The thumbprint of the key in a proof's header, read and not believed; empty for what is no proof."""
        try:
            member = _header(text)["jwk"] if len(text) <= PROOF_MAX_BYTES else {}
            names = sorted(("kty", *_MEMBERS[member["kty"]]))
            canonical = json.dumps({name: member[name] for name in names}, separators=(",", ":"))
            return urlsafe_b64encode(sha256(canonical.encode()).digest()).rstrip(b"=").decode()
        except Exception:  # as in `check`, which will say so
            return ""

    def check(self, text: str, token: str, *, method: str, urls: Sequence[str]) -> Proof:
        """The proof in a `DPoP` header, if it is for this token and a request to one of these URLs.

        Query and fragment of URLs do not count. Raises AuthError proof_refused.
        """
        try:
            return self._checked(text, token, method, urls)
        except Exception as error:  # hostile headers make the libraries raise all kinds
            logger.debug("proof refused: %s", error if isinstance(error, _Refusal) else type(error).__name__)
            raise AuthError("proof_refused") from None

    async def use_up(self, proof: Proof) -> None:
        """Take the proof. Raises AuthError proof_refused when it was taken before; BrokerError."""
        if not await self._store.first_use(proof.id, proof.key, 2 * AGE_MAX_S):
            logger.debug("proof refused: used before")
            raise AuthError("proof_refused")

    def _checked(self, text: str, token: str, method: str, urls: Sequence[str]) -> Proof:
        if len(text) > PROOF_MAX_BYTES or not text.isascii() or text.count(".") != 2:
            raise _Refusal("too long, or not a JWT")
        key = _key(_header(text))
        claims = jwt.decode(text, key, registry=self._registry).claims
        id, issued_at_s = claims.get("jti"), claims.get("iat")
        if not isinstance(id, str) or not 0 < len(id) <= ID_MAX_CHARACTERS:
            raise _Refusal("no id of its own")
        if not isinstance(issued_at_s, (int, float)) or isinstance(issued_at_s, bool):
            raise _Refusal("no time")
        if not abs(self._clock.wall_s() - issued_at_s) <= AGE_MAX_S:  # so that NaN is refused
            raise _Refusal("not made now")
        if claims.get("htm") != method or _comparable(claims.get("htu")) not in map(_comparable, urls):
            raise _Refusal("for another request")
        digest = urlsafe_b64encode(sha256(token.encode()).digest()).rstrip(b"=").decode()
        if claims.get("ath") != digest:
            raise _Refusal("for another token")
        thumbprint = key.thumbprint()
        return Proof(thumbprint, sha256(f"{thumbprint} {id}".encode("utf-8", "surrogatepass")).digest())


class _Refusal(Exception):
    """Why a proof does not hold, in words of ours."""


class _Registry(JWSRegistry):
    """Pinned algorithms, whatever their names' fashion; a header has room for a large RSA key."""

    max_header_length = PROOF_MAX_BYTES

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise _Refusal("an algorithm that is not allowed")
        return self.algorithms[name]


def _header(text: str) -> dict[str, Any]:
    raw = text[: text.index(".")].encode()
    header = json.loads(urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)))
    if not isinstance(header, dict) or header.get("typ") != "dpop+jwt" or "crit" in header or "b64" in header:
        raise _Refusal("not a proof by its header")
    if header.get("alg") not in ALGORITHMS:
        raise _Refusal("an algorithm that is not allowed")
    return header


def _key(header: dict[str, Any]) -> RSAKey | ECKey | OKPKey:
    """The public key in the header. Its own member `alg` does not count: what it may be used for is decided here."""
    member = header["jwk"]
    if not isinstance(member, dict) or member.get("kty") not in ("EC", "OKP", "RSA") or "d" in member:
        raise _Refusal("a key that is not a public one")
    key = JWKRegistry.import_key({name: member[name] for name in ("kty", *_MEMBERS[member["kty"]])})
    if isinstance(key, RSAKey):
        # A stranger chooses it, and a long exponent makes one check cost what twenty do.
        if key.public_key.key_size in RSA_BITS and key.public_key.public_numbers().e == _EXPONENT:
            return key
        raise _Refusal("an RSA key of a size or exponent that is not taken")
    if isinstance(key, ECKey) or (isinstance(key, OKPKey) and key.curve_name == "Ed25519"):
        return key
    raise _Refusal("a key that is not strong enough")


def _comparable(url: object) -> tuple[str, str, int | None, str] | None:
    """A URL without query and fragment, as RFC 3986, sections 6.2.2 and 6.2.3, would write it; None for what is none.

    Percent-encoding is compared as it is: a channel's name is told from another one by it.
    """
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme], parts.path or "/"
