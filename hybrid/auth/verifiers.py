"""Every kind of access token, each to the one who can judge it."""

from __future__ import annotations

from typing import Final

from hybrid.auth.introspection import Introspector
from hybrid.auth.jwt import JwtVerifier
from hybrid.errors import AuthError
from hybrid.model import Principal

_JWT_DOTS: Final = 2


class AnyTokenVerifier:
    """A `TokenVerifier`: what looks like a JWT is checked here, everything else by asking the one issuer that is asked.

    Never both: an issuer must not be shown the tokens of another one.
    """

    def __init__(self, jwts: JwtVerifier, introspector: Introspector | None = None) -> None:
        self.introspector: Final = introspector
        self._jwts = jwts

    def cached(self, token: str, proven_key: str = "") -> Principal | None:
        """See `TokenVerifier.cached`."""
        judge = self._judge(token)
        return None if judge is None else judge.cached(token, proven_key)

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        """See `TokenVerifier.verify`."""
        judge = self._judge(token)
        if judge is None:
            raise AuthError("token_refused")
        return await judge.verify(token, proven_key)

    async def warm(self) -> bool:
        """Fetch what is needed before the first client comes; False if some could not be had. Cancel-safe."""
        return await self._jwts.warm()

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        await self._jwts.close()
        if self.introspector is not None:
            await self.introspector.close()

    def _judge(self, token: str) -> JwtVerifier | Introspector | None:
        return self._jwts if token.count(".") == _JWT_DOTS else self.introspector
