"""How one kind of leg writes: which encoding its publications have and how its pushes become payloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hybrid.engine.encodings import SESSION_EVENT, SESSION_JSON, SESSION_MSGPACK, Encoding
from hybrid.protocol.codec import JSON, MSGPACK, Codec, push_event
from hybrid.protocol.pushes import Push


class Wire(NamedTuple):
    """One row a kind; legs carry a reference to the row, not copies of its parts."""

    name: str
    encoding: Encoding
    encode_push: Callable[[Push], bytes]
    codec: Codec


WEBSOCKET_JSON = Wire("websocket", SESSION_JSON, JSON.encode_push, JSON)
WEBSOCKET_MSGPACK = Wire("websocket", SESSION_MSGPACK, MSGPACK.encode_push, MSGPACK)
EVENT_STREAM = Wire("sse", SESSION_EVENT, push_event, JSON)
POLL = Wire("longpoll", SESSION_JSON, JSON.encode_push, JSON)
