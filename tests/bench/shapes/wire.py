"""What a subscriber says, and how what it hears is read. Kinds: `websocket`, `sse`, and `plain sse` of one channel."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

KINDS: Final = ("websocket", "sse")
READY: Final = {"websocket": b'"subscribed"', "sse": b'"subscribed"', "plain sse": b"\nid: "}
"""What is in that which comes once everything published from then on will arrive."""
PUBLICATION: Final = re.compile(
    rb'"channel":"([^"]*)","offset":(\d+),"epoch":"([a-z0-9]*)","tag":"([0-9a-f]{8})","data":"@(\d{19})'
)
"""A session's publication, of data that begins with `@` and when it was sent: monotonic, nanoseconds, 19 digits."""
PUBLICATION_HEAD_MAX: Final = 400
"""Longer than what this matches: so much of what came last may be the beginning of one."""
RESET: Final = re.compile(rb'"reset":\{"channel":"([^"]*)","position":\{"offset":(\d+)')
_HEAD: Final = "Host: {host}\r\nAuthorization: Bearer {token}\r\n"
_UPGRADE: Final = (
    "GET /v1/stream HTTP/1.1\r\n"
    + _HEAD
    + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: hybrid.v1\r\n\r\n"
)
_POST: Final = (
    "POST /v1/stream HTTP/1.1\r\n"
    + _HEAD
    + "Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
_GET: Final = "GET /v1/channels/{channel} HTTP/1.1\r\n" + _HEAD + "Accept: text/event-stream\r\n\r\n"


def masked(text: bytes) -> bytes:
    """A client's text frame (RFC 6455, section 5.2); masked with zeros, which a server has to undo all the same."""
    length = len(text)
    if length < 126:
        head = bytes((0x81, 0x80 | length))
    elif length < 65_536:
        head = b"\x81\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + length.to_bytes(8, "big")
    return head + bytes(4) + text


def attach(subscriptions: Sequence[dict[str, Any]], attempt: int = 1, session: str = "") -> bytes:
    """An attach that confirms itself. Of each channel: `channel`, and `position` to go on after."""
    command = {"method": "attach", "attempt": attempt, "nonce": "n", "confirm": True, "subscriptions": subscriptions}
    if session:
        command["session"] = session
    return json.dumps(command, separators=(",", ":")).encode()


def opening(
    kind: str, host: str, token: str, subscriptions: Sequence[dict[str, Any]], *, attempt: int = 1, session: str = ""
) -> tuple[bytes, bytes]:
    """What is sent at once, and what is sent when that was answered."""
    if kind == "websocket":
        asked = masked(attach(subscriptions, attempt, session))
        return _UPGRADE.format(host=host, token=token).encode(), asked
    if kind == "sse":
        body = attach(subscriptions, attempt, session)
        return _POST.format(host=host, token=token, length=len(body)).encode() + body, b""
    return _GET.format(host=host, token=token, channel=subscriptions[0]["channel"]).encode(), b""
