"""Which ASGI server holds a connection, and what it lets hybrid do with it: each server's insides have a file of their
own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from hybrid.links import front, hypercorn, uvicorn
from hybrid.links.asgi import Send
from hybrid.links.handoff import HandedOffEventStream, HandedOffWebSocket

_log = logging.getLogger(__name__)
_GIVING: Final = frozenset(("hypercorn", "uvicorn", "hybrid"))
"""Where the `send` of a server that gives its connections away comes from; for what it cannot give, its file warns."""
_has_warned = False


def take_websocket(send: Send, link: HandedOffWebSocket, subprotocol: str | None) -> bool:
    """Accept the handshake and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    return any(server.take_websocket(send, link, subprotocol) for server in (front, hypercorn, uvicorn))


def take_event_stream(send: Send, link: HandedOffEventStream, headers: list[tuple[bytes, bytes]]) -> bool:
    """Send a 200 head and put `link` in charge of the socket, without awaiting. False: nothing was done."""
    return any(server.take_event_stream(send, link, headers) for server in (front, hypercorn, uvicorn))


def decline_extensions(send: Send) -> None:
    """Have no permessage-deflate of the server's own, which would keep a context for each client."""
    hypercorn.decline_extensions(send)
    uvicorn.decline_extensions(send)


def terminator(send: Send) -> Callable[[], Awaitable[None]] | None:
    """What forces the server to give a stream up. None where that is not known."""
    return hypercorn.terminator(send) or uvicorn.terminator(send)


def warn_if_strange(send: Send) -> None:
    """Say in the log, once, that streams cost more under a server that does not give its connections away.

    Not where something has wrapped `send`: whoever did that knows, and the server behind may be any.
    """
    global _has_warned
    owner = getattr(send, "__self__", None)
    name = type(owner).__module__.partition(".")[0]
    if owner is not None and not _has_warned and name not in _GIVING:
        _has_warned = True
        _log.warning(
            "%s does not give its connections away; streams are served through plain ASGI, "
            "which costs more memory and time for each",
            name,
        )
