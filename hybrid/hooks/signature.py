"""Standard Webhooks (standardwebhooks.com, specification 1.0): what proves that a request is ours, and is not old.

    webhook-id: msg_...            the same for every attempt, so that a repeat is recognised
    webhook-timestamp: 1674087231  of this attempt, in Unix seconds
    webhook-signature: v1,<base64> v1,<base64>

Each `v1` is HMAC-SHA256 over `id.timestamp.body`, one for each secret: while a secret is changed the receiver accepts
either. Libraries that check it exist for most languages.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

PREFIX: Final = "whsec_"
SECRET_MIN_BYTES: Final = 24
SECRET_MAX_BYTES: Final = 64
"""Between 24 and 64 bytes, says the specification."""
TOLERANCE_S: Final = 300.0
"""By how much a receiver's clock and ours may differ, and how old a request may be."""


def read_secret(text: str) -> bytes:
    """The bytes of `whsec_<base64>`. Raises ValueError, whose words hold nothing of the secret."""
    if not text.startswith(PREFIX):
        raise ValueError(f"it starts with {PREFIX}")
    try:
        secret = b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("what stands behind the prefix is base64") from None
    if not SECRET_MIN_BYTES <= len(secret) <= SECRET_MAX_BYTES:
        raise ValueError(f"it has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes in base64")
    return secret


class Signer:
    """Signs with every secret; the receiver needs one of them."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets: Final = tuple(secrets)

    def headers(self, message_id: str, at_s: float, body: bytes) -> dict[str, str]:
        """The three headers of one attempt; `at_s` is its time, in Unix seconds."""
        timestamp = str(int(at_s))
        signatures = " ".join(f"v1,{_signature(secret, message_id, timestamp, body)}" for secret in self._secrets)
        return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def is_signed(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[bytes], now_s: float, tolerance_s: float = TOLERANCE_S
) -> bool:
    """Whether one of these secrets has signed this body, not long ago. `headers` have names in lower case.

    For receivers in Python; who receives remembers `webhook-id` for `tolerance_s` to drop what is played back.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    if abs(now_s - int(timestamp)) > tolerance_s:
        return False
    shown = [item[3:] for item in headers.get("webhook-signature", "").split(" ") if item.startswith("v1,")]
    expected = [_signature(secret, message_id, timestamp, body) for secret in secrets]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in shown for other in expected)


def _signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
    return b64encode(hmac.digest(secret, signed, sha256)).decode("ascii")
