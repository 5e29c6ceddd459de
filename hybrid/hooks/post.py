"""One POST to a backend and its answer: bounded in time and size, signed, never redirected. The only I/O of hooks.

The URL is the operator's. Its answer decides who may do what, so it is looked at like anybody's: no redirect is
followed (it would lead past the rule that answers come over TLS or from this machine), no compression, JSON only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from hybrid.cancelling import once

if TYPE_CHECKING:
    import httpx2

_KEPT_S: Final = 4.0  # that a connection waits for the next question; many servers close theirs after 5
_CONNECT_SHARE: Final = 0.5  # of the time for all: what is left is for another address, or another try
_CLOSED_AT_ONCE: Final = 1_024  # bytes of an answer whose body does not matter: read, so that the connection is kept
_GATEWAYS: Final = (502, 503, 504)
_HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": "hybrid-hooks",
}


class Failure(Enum):
    """How far a POST came that got no good answer."""

    UNSENT = "the backend cannot be connected to"
    BROKEN = "the connection broke before there was an answer"
    LATE = "no complete answer in time"
    AWAY = "a gateway says that the backend is away"
    REFUSED = "the answer cannot be used"


class PostError(Exception):
    """No good answer. Its text is for the log: the reason, nothing from either body."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure.value}: {detail}" if detail else failure.value)
        self.failure = failure


class Poster:
    """Posts JSON to one URL over kept connections. One event loop."""

    def __init__(self, url: str, *, timeout_s: float, answer_max_bytes: int, connections_max: int) -> None:
        """`timeout_s` is for the whole exchange: timeouts per read would let a server drip for hours."""
        self.url: Final = url
        self.name: Final = url.partition("?")[0]
        """For the log: what stands behind may be a secret."""
        self._timeout_s: Final = timeout_s
        self._answer_max_bytes: Final = answer_max_bytes
        self._connections_max: Final = connections_max
        self._client: httpx2.AsyncClient | None = None

    async def ask(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of a 200 with JSON. Raises PostError. Cancel-safe."""
        return await self._post(body, headers, wants_answer=True)

    async def tell(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Return when the receiver has answered with any 2xx. Raises PostError. Cancel-safe."""
        await self._post(body, headers, wants_answer=False)

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await once(client.aclose())

    async def _post(self, body: bytes, headers: Mapping[str, str], *, wants_answer: bool) -> bytes:
        client = self._opened()
        import httpx2

        try:
            async with asyncio.timeout(self._timeout_s):
                return await once(self._exchange(client, body, headers, wants_answer=wants_answer))
        except PostError:
            raise
        except (TimeoutError, httpx2.TimeoutException) as error:
            is_unsent = isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout))
            raise PostError(Failure.UNSENT if is_unsent else Failure.LATE, f"within {self._timeout_s:g} s") from None
        except httpx2.ConnectError:
            raise PostError(Failure.UNSENT, "") from None
        except httpx2.TransportError as error:
            raise PostError(Failure.BROKEN, type(error).__name__) from None
        except Exception as error:  # whatever a peer or a foreign library comes up with
            raise PostError(Failure.REFUSED, type(error).__name__) from None

    async def _exchange(
        self, client: httpx2.AsyncClient, body: bytes, headers: Mapping[str, str], *, wants_answer: bool
    ) -> bytes:
        async with client.stream("POST", self.url, content=body, headers=headers) as answer:
            if wants_answer:
                self._check(answer)
            elif not 200 <= answer.status_code < 300:
                raise PostError(_failure_of(answer.status_code), f"status {answer.status_code}")
            return await self._body(answer, wants_answer=wants_answer)

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code != 200:
            raise PostError(_failure_of(answer.status_code), f"status {answer.status_code}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise PostError(Failure.REFUSED, "its content type is not application/json")
        if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise PostError(Failure.REFUSED, "compressed although that was not asked for")

    async def _body(self, answer: httpx2.Response, *, wants_answer: bool) -> bytes:
        body = bytearray()
        bound = self._answer_max_bytes if wants_answer else _CLOSED_AT_ONCE
        async for chunk in answer.aiter_raw(65_536):
            body += chunk
            if len(body) > bound:
                if wants_answer:
                    raise PostError(Failure.REFUSED, f"more than {bound} bytes")
                break
        return bytes(body)

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            # Imported late: it takes a tenth of a second, which a server without hooks need not spend.
            import httpx2

            self._client = httpx2.AsyncClient(
                trust_env=False,  # neither a proxy nor a netrc from the environment comes between
                follow_redirects=False,
                headers=_HEADERS,
                timeout=httpx2.Timeout(self._timeout_s, connect=self._timeout_s * _CONNECT_SHARE),
                limits=httpx2.Limits(
                    max_connections=self._connections_max,
                    max_keepalive_connections=self._connections_max,
                    keepalive_expiry=_KEPT_S,
                ),
            )
        return self._client


def _failure_of(status: int) -> Failure:
    return Failure.AWAY if status in _GATEWAYS else Failure.REFUSED
