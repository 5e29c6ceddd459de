"""permessage-deflate (RFC 7692) for links that own their socket: what is offered, and the link that takes it.

Both sides start anew with each message (`no_context_takeover`). So nothing is kept for a client, what is compressed
once is good for all, and no message is ever compressed together with another one.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import parse_extension

from hybrid.links.handoff import HandedOffWebSocket

ANSWER: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_NAME: Final = "permessage-deflate"
_OFFER_MAX_BYTES: Final = 512
"""A browser's has 50, three alternatives with every parameter 300; longer ones are declined, which is no error."""
_OURS: Final = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)


class DeflatedWebSocket(HandedOffWebSocket):
    """A WebSocket whose client has offered permessage-deflate. It weighs what any other one does."""

    __slots__ = ()

    takes_deflated = True

    def start(self, transport: asyncio.Transport, head: bytes, left: bytes, has_ended: bool) -> None:
        """As any other's; and the head, whoever has made it, tells the client that its offer is taken."""
        super().start(transport, b"%bsec-websocket-extensions: %b\r\n\r\n" % (head[:-2], ANSWER), left, has_ended)


def offers_deflate(scope: Any) -> bool:
    """Whether a handshake offers permessage-deflate in a way that `ANSWER` answers.

    Raises nothing: what cannot be read offers nothing (it is declined, RFC 7692, section 5.1).
    """
    offers = [value for name, value in scope["headers"] if name == b"sec-websocket-extensions"]
    if not offers or sum(map(len, offers)) > _OFFER_MAX_BYTES:
        return False
    return _is_good(b", ".join(offers))


@lru_cache(maxsize=64)  # a few kinds of clients send a few kinds of offers, and parsing costs half of a small handshake
def _is_good(offers: bytes) -> bool:
    try:
        return any(name == _NAME and _fits(parameters) for name, parameters in parse_extension(offers.decode("ascii")))
    except (InvalidHeader, UnicodeDecodeError):
        return False


def _fits(parameters: Any) -> bool:
    try:
        answer, _ = _OURS.process_request_params(parameters, [])
    except NegotiationError:
        return False
    # Whoever asks for a smaller window of ours would need bytes of its own; the client's may have any size.
    return all(name != "server_max_window_bits" for name, _ in answer)
