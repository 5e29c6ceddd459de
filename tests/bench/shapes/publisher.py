"""One WebSocket session that publishes: the cheapest way into a server, so that what is measured is the way out."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.shapes.children import Failed
from tests.bench.shapes.wire import READY, masked, opening

BATCH_MAX: Final = 64
"""Commands of one frame (`commands_per_post_max`)."""
_FRAME_MAX: Final = 65_536
_TIMEOUT_S: Final = 60.0


class Publisher:
    """Blocking: whoever publishes waits until all of it is in the log."""

    def __init__(self, port: int, host: str, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first, second = opening("websocket", host, token, [])
        self._socket.sendall(first)
        self._until(b"\r\n\r\n")
        self._socket.sendall(second)
        self._until(READY["websocket"])

    def publish(self, channels: Sequence[str], size: int) -> None:
        """One publication of so many bytes of data on each of these, as many in a frame as may be. Raises Failed."""
        at_once = max(1, min(BATCH_MAX, _FRAME_MAX // (size + 200)))
        for start in range(0, len(channels), at_once):
            self._publish(channels[start : start + at_once], size)

    def _publish(self, channels: Sequence[str], size: int) -> None:
        data = f"@{time.monotonic_ns():019}".ljust(size - 2, "x")
        commands = (
            json.dumps({"id": place + 1, "method": "publish", "channel": channel, "data": data}, separators=(",", ":"))
            for place, channel in enumerate(channels)
        )
        self._socket.sendall(masked("\n".join(commands).encode()))
        answers = b""
        while answers.count(b'"reply"') < len(channels):
            answers += self._received()
            if b'"error"' in answers:
                raise Failed(f"a publish was refused: {answers[:300].decode('latin-1')}")

    def close(self) -> None:
        self._socket.close()

    def _until(self, mark: bytes) -> None:
        seen = b""
        while mark not in seen:
            seen += self._received()

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise Failed("the publisher's connection was closed")
        return data
