"""One HTTP request and its answer on plain ASGI: what a transport needs of it, bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from hybrid.auth.bearer import checked_query
from hybrid.engine.flight import Bodies
from hybrid.errors import HybridError, ProtocolError
from hybrid.links.kept_request import KeptRequest
from hybrid.model import Principal
from hybrid.transports.watch import PeerGone, Watch

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Keep: TypeAlias = Callable[[Send, int, list[tuple[bytes, bytes]], bytes], Awaitable[bool]]
"""Answers a request whole, and keeps its connection for the next one; False where that cannot be."""
_Result = TypeVar("_Result")

BODY_TIMEOUT_S = 10.0
"""For a whole body: the largest takes 10 s on 1 Mbit/s; a dripped one is an attack."""
LINGER_S = 1.0
"""How long a refused body is read on, and thrown away: a client that is still sending gets to see the answer."""
_LINGER_MAX_BYTES = 8_388_608
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")  # float() takes more than anybody means: inf, 1_0, ١٢


class Exchange:
    """A request: its parts, read when they are asked for."""

    __slots__ = (
        "_fields",
        "_is_body_read",
        "_kept",
        "_lines",
        "bodies",
        "extra_headers",
        "keep",
        "method",
        "principal",
        "raw_path",
        "receive",
        "refusal",
        "scope",
        "send",
        "session",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope.get("method", "GET")
        """The request's method; GET for a WebSocket handshake."""
        raw_path: bytes | None = scope.get("raw_path")
        self.raw_path = (scope.get("path", "").encode() if raw_path is None else raw_path).partition(b"?")[0]
        """The path as it was sent, percent-encoding and all, without the query."""
        self.extra_headers: Headers = ()
        self.keep: Keep | None = None
        self.bodies: Bodies | None = None  # where a body that is still coming is counted
        self.principal: Principal | None = None
        """Whom its credential speaks for, once that is known; for the log."""
        self.session = ""
        """The session that it names, once that is read; for the log."""
        self.status = 0
        """That of its answer; 0 before there is one, and where a stream is the answer."""
        self.refusal: HybridError | None = None
        """The error that was its answer."""
        kept = getattr(receive, "__self__", None)
        self._kept = kept if isinstance(kept, KeptRequest) else None
        # What is in front of us may have changed the headers, and may want to see the answer.
        is_as_sent = self._kept is not None and tuple(scope["headers"]) == self._kept.lines.headers
        self._lines = self._kept.lines if self._kept is not None and is_as_sent else None
        self._is_body_read = False
        self._fields: list[tuple[str, str]] | None = None

    @property
    def headers(self) -> Headers:
        """ASGI's pairs, names in lower case."""
        headers: Headers = self.scope["headers"]
        return headers

    @property
    def address(self) -> str:
        """The peer's address; empty where the server does not tell."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def log_fields(self) -> Mapping[str, object]:
        """See `logs.Source`."""
        return {"remote": self.address, "principal": self.principal, "session": self.session}

    def header(self, name: bytes) -> str | None:
        """The first value of a header, in Latin-1; None without it."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def read_headers(self, reader: Callable[[Headers], _Result]) -> _Result:
        """What `reader` finds in the headers; it is asked once for all requests of a kept connection that say the same.

        Raises what it raises.
        """
        return reader(self.headers) if self._lines is None else self._lines.read(reader)

    def accepts(self, media_type: str) -> bool:
        """Whether the Accept header names this type (wildcards do not count: they ask for nothing in particular)."""
        return media_type in self.read_headers(_accepted)

    def fields(self) -> list[tuple[str, str]]:
        """The query's parameters. Raises AuthError for a token among them, and for too many."""
        if self._fields is None:
            self._fields = checked_query(self.scope.get("query_string", b""))
        return self._fields

    def query(self, name: str) -> list[str]:
        """All values of a query parameter. Raises ProtocolError for what is no text; AuthError as `fields`."""
        values = [value for field, value in self.fields() if field == name]
        for value in values:
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise ProtocolError("bad_request", f"`{name}` is not UTF-8.")
        return values

    def query_one(self, name: str) -> str | None:
        """The value of a query parameter that may stand once. Raises ProtocolError when it stands twice."""
        values = self.query(name)
        if len(values) > 1:
            raise ProtocolError("bad_request", f"Give `{name}` once.")
        return values[0] if values else None

    def query_number(self, name: str, default: float, maximum: float) -> float:
        """A number of at least 0; more than `maximum` counts as that. Raises ProtocolError for anything else."""
        text = self.query_one(name)
        if text is None:
            return default
        if _NUMBER.fullmatch(text) is None:
            raise ProtocolError("bad_request", f"`{name}` is a plain number of at least 0, such as 25 or 2.5.")
        return min(float(text), maximum)

    async def body(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises ProtocolError too_large, or bad_request when it takes too long; LimitError when too many are on their
        way; PeerGone.
        """
        whole = None if self._kept is None else self._kept.take_body()
        if whole is not None:
            self._is_body_read = True
            if len(whole) > max_bytes:
                raise _too_large(max_bytes)
            return whole
        length = self.header(b"content-length")
        if length is not None and length.isdecimal() and int(length[:20]) > max_bytes:
            raise _too_large(max_bytes)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._whole_body(max_bytes)
        except TimeoutError:
            raise ProtocolError("bad_request", "The body did not arrive in time.") from None

    async def _whole_body(self, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = held = 0
        try:
            while True:
                message = await self.receive()
                if message["type"] != "http.request":
                    raise PeerGone
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    self._is_body_read = True
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                if part and self.bodies is not None:
                    self.bodies.hold(self.address, len(part))
                    held += len(part)
        finally:
            if held and self.bodies is not None:
                self.bodies.release(self.address, held)

    def unless_gone(self) -> Watch:
        """Cancels what is awaited inside `with` when the client goes away. Raises PeerGone then."""
        return Watch(self.receive, self._kept)

    async def respond(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        headers: Iterable[tuple[bytes, bytes]] = (),
        cache_control: bytes = b"no-store",
    ) -> None:
        """Answer, whole, with Content-Length so that nothing on the way holds it back."""
        self.status = status
        head = [
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", cache_control),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            *self.extra_headers,
            *headers,
        ]
        if body:
            head.append((b"content-type", content_type.encode()))
        answer = b"" if self.method == "HEAD" else body
        lingers = status >= 400 and self.method == "POST" and not self._is_body_read
        kept, is_seen = self._kept, getattr(self.send, "__self__", None) is not self._kept  # by who stands in between
        try:
            if kept is None:
                if status < 400 and self.keep is not None and await self.keep(self.send, status, head, answer):
                    return
            elif not (lingers or is_seen):
                await kept.answer(status, head, answer)
                return
            await self.send({"type": "http.response.start", "status": status, "headers": head})
            if lingers:
                await self.send({"type": "http.response.body", "body": answer, "more_body": True})
                await self._discard_body()
                answer = b""
            await self.send({"type": "http.response.body", "body": answer, "more_body": False})
        except OSError:
            raise PeerGone from None

    async def _discard_body(self) -> None:
        """Read on for a moment behind a refusal: closing on unread bytes resets the connection, and the answer with it

        (RFC 9112, section 9.6).
        """
        left = _LINGER_MAX_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await self.receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))

    async def respond_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer a HEAD request with status 200 and these headers."""
        try:
            await self.send({"type": "http.response.start", "status": 200, "headers": list(headers)})
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            raise PeerGone from None


def _accepted(headers: Headers) -> frozenset[str]:
    """The media types of the first Accept header."""
    for name, value in headers:
        if name == b"accept":
            parts = value.decode("latin-1").split(",")
            return frozenset(part.split(";", 1)[0].strip().lower() for part in parts)
    return frozenset()


def _too_large(max_bytes: int) -> ProtocolError:
    return ProtocolError("too_large", f"The body is larger than {max_bytes} bytes.")
