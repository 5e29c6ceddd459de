"""The one question that auth answers: who does this token speak for?"""

from __future__ import annotations

from typing import Protocol

from hybrid.model import Principal


class TokenVerifier(Protocol):
    """Turns an access token into a Principal."""

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """The principal of a token that was verified before and is still good; None when `verify` must look.

        Synchronous and cheap (one hash): it keeps reconnect storms off the slow path.
        """

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """The principal that the token speaks for.

        `proven_key` is the thumbprint of the key whose possession was proven with this request (`auth.dpop`). It must
        be the one that the token is bound to, and empty for a bearer token (RFC 9449, section 7.1).

        Raises AuthError `token_refused` for whatever is wrong with the token, without telling what; `token_expired`
        when its only fault is that its time is over; `keys_unavailable` (503) when it cannot be checked now.
        Cancel-safe.
        """

    async def close(self) -> None:
        """Release connections."""
