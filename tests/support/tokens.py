"""Tokens for tests: a clock moved by hand, keys, and tokens that are wrong in exactly one way."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, serialize_compact

ISSUER = "https://issuer.example"
AUDIENCE = "https://hybrid.example"
NOW_S = 1_800_000_000.0

# Made once: an RSA key takes a tenth of a second.
EC_KEY = ECKey.generate_key("P-256", {"kid": "ec"})
OTHER_EC_KEY = ECKey.generate_key("P-256", {"kid": "ec"})
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})
OKP_KEY = OKPKey.generate_key("Ed25519", {"kid": "okp"})


class HandClock:
    """Both clocks stand still until they are moved."""

    def __init__(self, wall_s: float = NOW_S) -> None:
        self.wall = wall_s
        self.monotonic = 1_000.0

    def monotonic_s(self) -> float:
        return self.monotonic

    def wall_s(self) -> float:
        return self.wall

    def move(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += seconds
        self.monotonic += seconds


class _AnyAlgorithm(JWSRegistry):
    def __init__(self) -> None:
        super().__init__(strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: dict[str, Any]) -> None:
        """Whatever a test wants to sign."""


def tampered(credential: str) -> str:
    """The same but for one character near its end, whichever stood there: what is put there blindly may be right.

    Not the last one, some bits of which mean nothing.
    """
    return credential[:-10] + ("A" if credential[-10] != "A" else "B") + credential[-9:]


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that are in order, but for the changes; a value of None leaves the claim out."""
    made: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "app",
        "iat": int(NOW_S),
        "exp": int(NOW_S) + 600,
        "jti": "t1",
        "scope": "hybrid:subscribe:news hybrid:publish:chat:*",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def sign(
    payload: dict[str, Any] | bytes | None = None,
    key: ECKey | RSAKey | OKPKey | OctKey = EC_KEY,
    algorithm: str = "ES256",
    **header: Any,
) -> str:
    """A token signed with the key; header members of None are left out."""
    members = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid, **header}
    members = {name: value for name, value in members.items() if value is not None}
    body = claims() if payload is None else payload
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return serialize_compact(members, raw, key, registry=_AnyAlgorithm())


def segment(value: Any) -> str:
    """One base64url segment of a JWT: of bytes as they are, of anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> Any:
    """The JSON in one base64url segment of a JWT."""
    return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def public(*keys: ECKey | RSAKey | OKPKey) -> dict[str, Any]:
    """The key set document that publishes these keys."""
    return {"keys": [key.as_dict(private=False) for key in keys]}


def dpop_proof(key: ECKey, method: str, url: str, token: str = "", **changes: Any) -> str:
    """A proof that whoever sends it has the key (RFC 9449, section 4.2); `changes` are claims that differ."""
    claims: dict[str, Any] = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": url,
        "iat": int(time.time()),
        **changes,
    }
    if token:
        claims["ath"] = urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    header = {"alg": "ES256", "typ": "dpop+jwt", "jwk": key.as_dict(private=False)}
    return jwt.encode(header, claims, key)
