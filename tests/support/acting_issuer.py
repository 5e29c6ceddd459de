"""An issuer on the loopback that a test plays: metadata, keys and introspection, each answered as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.support.answering import Answer, Server, document, fixed, serving
from tests.support.server import AUDIENCE
from tests.support.tokens import EC_KEY, claims, public, sign

METADATA: Final = "/.well-known/oauth-authorization-server"


class Issuer:
    """Answers by path; what has no answer is 404. `asked` holds the paths, in order."""

    def __init__(self, server: Server, key: Any) -> None:
        self._server = server
        self.url = f"http://127.0.0.1:{server.port}"
        self.key = key
        self.answers: dict[str, Answer] = {
            METADATA: document(self.metadata()),
            "/keys": document(public(key)),
            "/ask": document({"active": True, "aud": AUDIENCE, "sub": "alice", "scope": "hybrid:subscribe:*"}),
        }

    def metadata(self, **changes: Any) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "introspection_endpoint": f"{self.url}/ask",
            **changes,
        }

    @property
    def requests(self) -> list[bytes]:
        """All that it was asked, whole."""
        return self._server.requests

    @property
    def asked(self) -> list[str]:
        return [request.split(b" ")[1].decode() for request in self.requests]

    async def answer(self, writer: asyncio.StreamWriter) -> None:
        await self.answers.get(self.asked[-1], fixed(b"", status="404 Not Found"))(writer)

    def token(self, **header: Any) -> str:
        """One that is in order, but for members of its header."""
        return self.signed({}, **header)

    def signed(self, changes: dict[str, Any], **header: Any) -> str:
        """One with other claims."""
        now_s = int(time.time())
        payload = claims(iss=self.url, iat=now_s, exp=now_s + 600, **{"scope": "hybrid:subscribe:*", **changes})
        return sign(payload, key=self.key, **header)


@asynccontextmanager
async def issuing(key: Any = EC_KEY) -> AsyncIterator[Issuer]:
    async def later(writer: asyncio.StreamWriter) -> None:
        await made.answer(writer)

    async with serving(later) as server:
        made = Issuer(server, key)
        yield made
