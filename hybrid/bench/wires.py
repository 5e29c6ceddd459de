"""What clients and publishers send, as bytes. The shapes are those of `docs/protocol.md`."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from hybrid.bench.messages import Target
from hybrid.bench.tracking import Track
from hybrid.protocol.channels import percent_encode
from hybrid.protocol.commands import AttachSubscription, WirePosition
from hybrid.protocol.cursor import format_composite, format_cursor, from_wire

POLL_WAIT_S: Final = 25
_JSON: Final = "application/json"
_EVENT_STREAM: Final = "text/event-stream"
_encode: Final = msgspec.json.Encoder().encode


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame, masked with zeros: every server has to undo that all the same (RFC 6455, section 5.3)."""
    head = 0x80 | opcode
    if len(payload) < 126:
        return struct.pack("!BB", head, 0x80 | len(payload)) + bytes(4) + payload
    if len(payload) < 65_536:
        return struct.pack("!BBH", head, 0xFE, len(payload)) + bytes(4) + payload
    return struct.pack("!BBQ", head, 0xFF, len(payload)) + bytes(4) + payload


HEARTBEAT: Final = frame(b'{"method":"heartbeat"}')


class Wires:
    """The requests to one server."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def request(self, method: str, path: str, token: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
        """A whole request."""
        lines = [f"{method} {self._target.path}{path} HTTP/1.1", f"Host: {self._target.netloc}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    def upgrade(self, token: str) -> bytes:
        """The handshake of a session's WebSocket (RFC 6455, section 4.1)."""
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": "hybrid.v1",
        }
        return self.request("GET", "/v1/stream", token, headers)

    def stream(self, token: str, attach: bytes) -> bytes:
        """An event stream of a session."""
        return self.request("POST", "/v1/stream", token, {"Accept": _EVENT_STREAM, "Content-Type": _JSON}, attach)

    def post(self, token: str, command: bytes) -> bytes:
        """A long poll of a session: its attach, or a later poll."""
        return self.request("POST", "/v1/stream", token, {"Accept": _JSON, "Content-Type": _JSON}, command)

    def plain_stream(self, token: str, tracks: Sequence[Track]) -> bytes:
        """An event stream of channels without a session, which goes on where it was."""
        if len(tracks) == 1:
            path = f"/v1/channels/{percent_encode(tracks[0].channel)}"
        else:
            path = "/v1/channels?" + "&".join(f"name={percent_encode(track.channel)}" for track in tracks)
        headers = {"Accept": _EVENT_STREAM}
        if all(track.is_started for track in tracks):
            positions = {track.channel: from_wire(track.wire_position) for track in tracks}
            [first, *others] = positions.values()
            headers["Last-Event-ID"] = format_composite(positions) if others else format_cursor(first)
        return self.request("GET", path, token, headers)

    def publish(self, token: str, channel: str, length: int) -> bytes:
        """The head of a publish whose body is so long."""
        path = f"/v1/channels/{percent_encode(channel)}"
        head = self.request("POST", path, token, {"Content-Type": _JSON})
        return head[:-2] + f"Content-Length: {length}\r\n\r\n".encode()


class _Attach(msgspec.Struct, omit_defaults=True):
    method: str
    attempt: int
    nonce: str
    session: str = ""
    last_seq: int = 0
    confirm: bool = False
    subscriptions: list[AttachSubscription] = msgspec.field(default_factory=list)


class _PolledPosition(msgspec.Struct):
    channel: str
    position: WirePosition


class _Poll(msgspec.Struct, omit_defaults=True):
    method: str
    session: str
    attempt: int
    last_seq: int
    positions: list[_PolledPosition]
    sealed: str
    wait_s: float


def attach(session: str, attempt: int, last_seq: int, tracks: Iterable[Track]) -> bytes:
    """An attach that is its own confirm, with the position of every channel that has one."""
    subscriptions = [
        AttachSubscription(track.channel, track.wire_position if track.is_started else None) for track in tracks
    ]
    return _encode(_Attach("attach", attempt, "n", session, last_seq, True, subscriptions))


def poll(session: str, attempt: int, last_seq: int, tracks: Iterable[Track], sealed: str) -> bytes:
    """The next poll of a session."""
    positions = [_PolledPosition(track.channel, track.wire_position) for track in tracks]
    return _encode(_Poll("poll", session, attempt, last_seq, positions, sealed, POLL_WAIT_S))


def heartbeat(last_seq: int) -> bytes:
    """A heartbeat that acknowledges the numbered pushes."""
    return HEARTBEAT if not last_seq else frame(b'{"method":"heartbeat","last_seq":%d}' % last_seq)


def publish_command(number: int, channel: str, data: bytes) -> bytes:
    """A publish as a frame of a session; `data` is JSON."""
    return frame(b'{"id":%d,"method":"publish","channel":%b,"data":%b}' % (number, _encode(channel), data))
