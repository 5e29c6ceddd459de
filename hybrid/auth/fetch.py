"""Fetches small JSON documents of configured issuers: the only network access of auth, and its only user of httpx2.

What is fetched was written down by the operator or by a configured issuer, never by somebody who shows a token. Even
so the answer is not trusted: https only, no redirects (they would lead past that rule, CVE-2026-32301 shows where), no
compression, and bounds on the size and on the time of the whole exchange.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlsplit

from hybrid.cancelling import once

if TYPE_CHECKING:
    import httpx2

DOCUMENT_MAX_BYTES: Final = 262_144
"""Of one document: a key set with dozens of certificates is below 100 KB."""
FETCH_TIMEOUT_S: Final = 5.0
"""For the whole exchange; timeouts per read would let a server drip for hours."""
_CONNECT_SHARE: Final = 0.5
"""Of it, for a connection: then httpx2 gives up first, and closes what hung in a TLS handshake."""


class FetchError(Exception):
    """A document could not be had. The message is for the log: it names the URL and the reason, never the content."""


class JsonFetcher:
    """Gets JSON objects over https."""

    def __init__(
        self,
        *,
        http_hosts: Iterable[str] = (),
        timeout_s: float = FETCH_TIMEOUT_S,
        max_bytes: int = DOCUMENT_MAX_BYTES,
        connections_max: int = 8,
        kept_max: int = 0,
    ) -> None:
        """`http_hosts` are the host names that may be asked over plain http, by exact name without port.

        `kept_max` connections are kept open for the next fetch.
        """
        self._connections_max: Final = connections_max
        self._kept_max: Final = kept_max
        self._http_hosts: Final = frozenset(http_hosts)
        self._timeout_s: Final = timeout_s
        self._max_bytes: Final = max_bytes
        self._client: httpx2.AsyncClient | None = None

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object at `url`. Raises FetchError for everything else that may happen. Cancel-safe."""
        return await self._fetch("GET", url)

    async def post(self, url: str, form: Mapping[str, str], *, user: str, password: str) -> dict[str, Any]:
        """The JSON object that answers a form. Raises and cancels as `get` does.

        The client authenticates with HTTP Basic, id and secret encoded as forms are (RFC 6749, section 2.3.1).
        """
        pair = f"{quote_plus(user)}:{quote_plus(password)}".encode()
        headers = {"authorization": f"Basic {b64encode(pair).decode()}"}
        return await self._fetch("POST", url, data=dict(form), headers=headers)

    async def _fetch(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        self._check_url(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await once(self._read(method, url, **options))
            document = json.loads(body)
        except FetchError:
            raise
        except TimeoutError:
            raise FetchError(f"{url}: no complete answer within {self._timeout_s} s") from None
        except (Exception, RecursionError) as error:  # whatever a peer or a foreign library comes up with
            raise FetchError(f"{url}: {type(error).__name__}") from None
        if not isinstance(document, dict):
            raise FetchError(f"{url}: not a JSON object")
        return document

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await once(client.aclose())

    def _check_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, has_userinfo = parts.hostname, "@" in parts.netloc
        except ValueError:
            host, has_userinfo = None, False
        if not host or has_userinfo or not url.isascii() or not url.isprintable():
            raise FetchError("a URL without a host, or with a user in it, or with odd characters")
        if parts.scheme != "https" and not (parts.scheme == "http" and host in self._http_hosts):
            raise FetchError(f"{url}: only https is allowed, http for hosts in the settings")

    async def _read(self, method: str, url: str, **options: Any) -> bytes:
        async with self._opened().stream(method, url, **options) as response:
            if response.status_code != 200:
                raise FetchError(f"{url}: status {response.status_code}")
            if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise FetchError(f"{url}: compressed although that was not asked for")
            body = bytearray()
            async for chunk in response.aiter_raw(65_536):
                body += chunk
                if len(body) > self._max_bytes:
                    raise FetchError(f"{url}: more than {self._max_bytes} bytes")
            return bytes(body)

    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            # Imported late: it takes a tenth of a second, which a server with given keys need not spend.
            import httpx2

            self._client = httpx2.AsyncClient(
                trust_env=False,  # a proxy or a netrc from the environment must not come between us and the issuer
                follow_redirects=False,
                headers={"accept": "application/json", "accept-encoding": "identity"},
                timeout=httpx2.Timeout(self._timeout_s, connect=self._timeout_s * _CONNECT_SHARE),
                # Keys are fetched every ten minutes; who is asked about tokens is asked often.
                limits=httpx2.Limits(max_connections=self._connections_max, max_keepalive_connections=self._kept_max),
            )
        return self._client
