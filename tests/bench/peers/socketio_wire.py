"""What both Socket.IO servers share: the wire (Engine.IO 4, Socket.IO 5), and a plain HTTP POST to publish with."""

from __future__ import annotations

from typing import Final

from tests.bench.dialects import JSON_BODY, TOKEN, UPGRADE, Dialect, Publishing, frames

WEBSOCKET: Final = Dialect(
    "websocket",
    f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {{host}}\r\n{UPGRADE}\r\n",
    '40{{"token":"{token}"}}',  # a CONNECT to the main namespace with its `auth`
    b'40{"sid"',
    frames,
)
PUBLISHING: Final = Publishing(f"POST /publish HTTP/1.1\r\n{TOKEN}{JSON_BODY}")
CANNOT: Final = "it has no event streams; its second transport is long polling, which is not measured here"
