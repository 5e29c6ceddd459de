"""The keys that tokens are signed with: made here, in memory only, rotated by hand (RFC 7517)."""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, KeyParameters, KeySet

from hybrid.auth.keys import StaticKeys

ALGORITHM: Final = "ES256"

_USE: Final[KeyParameters] = {"use": "sig", "alg": ALGORITHM}
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The number of points of the curve (SEC 2, section 2.4.2): private keys are the whole numbers below it, from 1."""


class SigningKeys:
    """The key in use and the ones before it that are still published."""

    def __init__(self, seed: bytes | None) -> None:
        """With a `seed` (32 random bytes) the first key is always the same."""
        self.public: Final = StaticKeys()
        self._keys: list[ECKey] = []
        self._begin(_new_key() if seed is None else _seeded_key(seed), keep=0)

    def rotate(self, *, keep: int) -> None:
        """Sign with a new key from now on, and publish it with the `keep` newest ones before it."""
        self._begin(_new_key(), keep=keep)

    @property
    def active(self) -> KeySet:
        """The key in use. In a set, because only from a set does Authlib write the key's id into the token."""
        return KeySet([self._keys[0]])

    def as_jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517, section 5), newest first."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def _begin(self, key: ECKey, *, keep: int) -> None:
        self._keys = [key, *self._keys[:keep]]
        self.public.replace(self._keys)


def _new_key() -> ECKey:
    return ECKey.generate_key("P-256", _USE, auto_kid=True)


def _seeded_key(seed: bytes) -> ECKey:
    number = 1 + int.from_bytes(seed, "big") % (_P256_ORDER - 1)
    private = ec.derive_private_key(number, ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = ECKey.import_key(pem, _USE)
    key.ensure_kid()
    return key
