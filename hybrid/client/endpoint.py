"""Where the server is, and the HTTP client that reaches it. The home of httpx2 in the client.

`dial` sends the bytes somewhere else than the URL says, for tests that put a faulty wire in between: a (host, port),
or a function that gives one for the name of a transport. Host header and TLS name stay those of the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpx2

from hybrid.cancelling import once
from hybrid.client.ending import Ending, network, of_http
from hybrid.client.in_process import InProcess
from hybrid.errors import SettingsError

Dial: TypeAlias = tuple[str, int] | Callable[[str], tuple[str, int]]

_BODY_MAX_BYTES: Final = 33_554_432
"""Of one answer, such as a poll after a long absence; a server that sends more is not ours."""

_KEPT_S: Final = 4.0
"""Connections that nothing is asked over: below what servers and proxies wait before they close theirs."""
HTTP_ERRORS: Final = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
"""Everything that the library raises for what a network or a peer did."""


class BodyTooLarge(httpx2.ReadError):
    """An answer passed the bound."""


class Endpoint:
    """One server. `open` and `close` frame its use."""

    def __init__(
        self,
        url: str,
        *,
        dial: Dial | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = 10.0,
        in_process: InProcess | None = None,
    ) -> None:
        """`in_process` is asked in place of a server that would have to be dialled."""
        self.in_process = in_process
        try:
            parts = urlsplit(url)
        except ValueError:  # brackets that hold no address
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise SettingsError(detail=f"The URL must read http://host[:port] or https://host[:port], not {url!r}.")
        try:
            self.port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise SettingsError(detail=f"The port in {url!r} is not a number from 1 to 65535.") from None
        self.is_secure = parts.scheme == "https"
        self.host = parts.hostname
        self.tls = tls
        self.connect_timeout_s = connect_timeout_s
        self.netloc = parts.netloc.rpartition("@")[2]
        self.path = parts.path.rstrip("/")
        self._dial = dial
        self._http: httpx2.AsyncClient | None = None

    def websocket_url(self, path: str) -> str:
        """The ws or wss URL of a path."""
        return f"{'wss' if self.is_secure else 'ws'}://{self.netloc}{self.path}{path}"

    def dialled(self, transport: str) -> tuple[str, int] | None:
        """Where the bytes of a transport go when it is not where the URL says."""
        return self._dial(transport) if callable(self._dial) else self._dial

    def dialling(self) -> dict[str, Any]:
        """What `websockets` is told of where a WebSocket goes, and of whom it trusts there."""
        where: dict[str, Any] = {}
        dialled = self.dialled("websocket")
        if dialled is not None:
            where = {"host": dialled[0], "port": dialled[1]}
        if self.is_secure and self.tls is not None:
            where["ssl"] = self.tls
        return where

    async def open(self) -> None:
        """Make the HTTP client. Proxies and netrc of the environment are not used: a token must not go astray."""
        self._http = httpx2.AsyncClient(
            trust_env=False,
            transport=self.in_process,
            # Reading the system's certificates takes a tenth of a second; without TLS there is nothing to verify.
            verify=self.tls if self.tls is not None else self.is_secure,
            timeout=httpx2.Timeout(None, connect=self.connect_timeout_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=_KEPT_S),
        )

    async def close(self) -> None:
        """Release connections; safe to call twice."""
        if self._http is not None:
            http, self._http = self._http, None
            await once(http.aclose())

    def stream(self, method: str, path: str, transport: str, headers: dict[str, str], **options: Any) -> Any:
        """An HTTP exchange as an async context manager that gives the response. Raises one of HTTP_ERRORS inside."""
        assert self._http is not None, "the endpoint is not open"
        dialled = self.dialled(transport)
        host = self.netloc
        extensions: dict[str, Any] = {}
        if dialled is not None:
            headers = {**headers, "Host": self.netloc}
            host = f"[{dialled[0]}]:{dialled[1]}" if ":" in dialled[0] else f"{dialled[0]}:{dialled[1]}"
            extensions = {"sni_hostname": self.host}
        url = f"{'https' if self.is_secure else 'http'}://{host}{self.path}{path}"
        return self._http.stream(method, url, headers=headers, extensions=extensions, **options)

    async def request(
        self, method: str, path: str, transport: str, headers: dict[str, str], **options: Any
    ) -> bytes | Ending:
        """The body of a 200 or 201, otherwise how it ended. Raises nothing but cancellation."""
        return await once(self._request(method, path, transport, headers, **options))

    async def _request(
        self, method: str, path: str, transport: str, headers: dict[str, str], **options: Any
    ) -> bytes | Ending:
        try:
            async with self.stream(method, path, transport, headers, **options) as response:
                body = await read_bounded(response)
        except HTTP_ERRORS as error:
            return network(error)
        if response.status_code in (200, 201):
            return body
        return of_http(response.status_code, response.headers, body)

    async def request_within(
        self, max_s: float, method: str, path: str, transport: str, headers: dict[str, str], **options: Any
    ) -> bytes | Ending:
        """As `request`, for `max_s` at most."""
        try:
            async with asyncio.timeout(max_s):
                return await self.request(method, path, transport, headers, **options)
        except TimeoutError:
            return network("no answer in time")


async def read_bounded(response: httpx2.Response) -> bytes:
    """The whole body. Raises one of HTTP_ERRORS, also when it is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _BODY_MAX_BYTES:
            raise BodyTooLarge(f"the answer is larger than {_BODY_MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
