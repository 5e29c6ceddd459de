"""The front door: from an ASGI request to a `Link`, handed off where that is possible, on plain ASGI otherwise.

Await these functions directly, not through a task: from accepting to returning nothing reaches the owner, and what the
peer has sent already is delivered from the event loop afterwards, when the caller has put the link where its owner
expects it. The last act of the ASGI call must be `await link.served()`.
"""

from __future__ import annotations

from typing import Protocol

from hybrid.clock import Clock
from hybrid.engine.link import Link, LinkOwner
from hybrid.limits import Limits
from hybrid.links import hypercorn, servers
from hybrid.links.asgi import AsgiEventStream, AsgiWebSocket, Receive, Scope, Send
from hybrid.links.deflate import DeflatedWebSocket, offers_deflate
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket
from hybrid.links.peer import peer_name


class OpenLink(Link, Protocol):
    """A `Link` as its transport sees it."""

    @property
    def is_handed_off(self) -> bool:
        """True when hybrid holds the socket itself."""

    async def served(self) -> None:
        """Return when the ASGI call may end: at once for a handed-off link, otherwise at the end of the link."""


class OpenWebSocket(OpenLink, Protocol):
    """A WebSocket as its transport sees it."""

    message_max_bytes: int
    """Larger messages end the link with 1009. May be raised at any time, from inside `link_received` too: it then
    holds for the next message, even if that came in the same packet."""


async def open_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    owner: LinkOwner,
    subprotocol: str | None,
    is_binary: bool,
    limits: Limits,
    clock: Clock,
    message_max_bytes: int,
    allow_handoff: bool = True,
    probe_payload: bytes | None = None,
    may_deflate: bool = False,
) -> OpenWebSocket:
    """Accept a WebSocket handshake and return the link.

    permessage-deflate is taken with `may_deflate` where the link owns its socket, and otherwise declined where the
    server lets us.
    `subprotocol` is None or one of `scope["subprotocols"]`, otherwise ValueError. `is_binary` says which kind of frame
    carries what is written. `probe_payload` is what `probe` sends where there are no pings (see `AsgiWebSocket`).
    A client that has gone meanwhile is no error: the link then closes at once.
    Cancelling leaves the call to the server.
    """
    if subprotocol is not None and subprotocol not in scope.get("subprotocols", ()):
        raise ValueError("the client did not offer this subprotocol")
    if allow_handoff:
        make = DeflatedWebSocket if may_deflate and offers_deflate(scope) else HandedOffWebSocket
        link = make(
            owner=owner,
            is_binary=is_binary,
            limits=limits,
            clock=clock,
            message_max_bytes=message_max_bytes,
            client=scope.get("client"),
        )
        if servers.take_websocket(send, link, subprotocol):
            return link
        servers.warn_if_strange(send)
    asgi_link = AsgiWebSocket(
        receive,
        send,
        owner=owner,
        is_binary=is_binary,
        limits=limits,
        clock=clock,
        message_max_bytes=message_max_bytes,
        peer=peer_name(scope.get("client")),
        probe_payload=probe_payload,
        terminate=servers.terminator(send),
    )
    if hypercorn.end_if_refused(send):
        asgi_link.end_at_once(1006)
        return asgi_link
    servers.decline_extensions(send)
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
    except OSError:
        asgi_link.end_at_once(1006)
    return asgi_link


async def open_event_stream(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    owner: LinkOwner,
    headers: list[tuple[bytes, bytes]],
    limits: Limits,
    clock: Clock,
    allow_handoff: bool = True,
) -> OpenLink:
    """Answer with status 200 and `headers`, and return the link that writes the body.

    Neither lengths nor `Connection` belong into `headers`. Raises ValueError for a header with a line break in it. A
    HEAD request gets the head only and a link that closes at once (1000). Cancelling leaves the call to the server.
    """
    has_body = scope["method"] != "HEAD"
    if allow_handoff and has_body and scope["http_version"] in ("1.0", "1.1"):
        is_chunked = scope["http_version"] == "1.1"
        link = HandedOffEventStream(
            owner=owner, is_chunked=is_chunked, limits=limits, clock=clock, client=scope.get("client")
        )
        if servers.take_event_stream(send, link, headers):
            return link
        servers.warn_if_strange(send)
    asgi_link = AsgiEventStream(
        receive,
        send,
        owner=owner,
        limits=limits,
        clock=clock,
        peer=peer_name(scope.get("client")),
        terminate=servers.terminator(send),
    )
    if has_body and scope["http_version"].startswith("1"):
        # What follows a stream on its connection would wait for its end; later versions know no such header.
        headers = [*headers, (b"connection", b"close")]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not has_body:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            asgi_link.end_at_once(1000)
    except OSError:
        asgi_link.end_at_once(1006)
    return asgi_link
