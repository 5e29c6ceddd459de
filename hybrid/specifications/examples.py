"""One example of each message of a session. A test holds them against the schemas and against the codec."""

from __future__ import annotations

from typing import Any, Final

from hybrid.protocol.routes.channels import PUBLICATION
from hybrid.protocol.routes.sessions import ATTACH, ATTACHED, SESSION

_POSITION: Final = {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}
_CHANNEL: Final = "chat:lobby"
_SEALED: Final = "c2VhbGVk"

COMMANDS: Final[dict[str, Any]] = {
    "auth": {"method": "auth", "token": "eyJhbGciOi..."},
    "attach": ATTACH,
    "confirm": {"method": "confirm", "attempt": 2, "subscriptions": [{"channel": _CHANNEL, "position": _POSITION}]},
    "subscribe": {"method": "subscribe", "id": 2, "n": 1, "channel": _CHANNEL, "history": 10},
    "unsubscribe": {"method": "unsubscribe", "id": 3, "n": 2, "channel": _CHANNEL},
    "publish": {"method": "publish", "id": 1, "channel": _CHANNEL, "data": {"text": "hello"}, "key": "order-4711"},
    "call": {"method": "call", "id": 4, "name": "greet", "data": {"name": "Alice"}, "key": "greeting-1"},
    "history": {"method": "history", "id": 5, "channel": _CHANNEL, "limit": 10, "reverse": True},
    "presence": {"method": "presence", "id": 6, "channel": _CHANNEL},
    "refresh": {"method": "refresh", "id": 7, "n": 3, "token": "eyJhbGciOi..."},
    "heartbeat": {"method": "heartbeat", "last_seq": 4, "echo": 3},
    "poll": {
        "method": "poll",
        "session": SESSION,
        "attempt": 1,
        "last_seq": 4,
        "positions": [{"channel": _CHANNEL, "position": _POSITION}],
        "sealed": _SEALED,
        "wait_s": 25.0,
    },
}
"""By method."""

PUSHES: Final[dict[str, list[Any]]] = {
    "attached": [ATTACHED],
    "subscribed": [
        {"subscribed": {"channels": [{"channel": _CHANNEL, "position": _POSITION}]}},
        {"subscribed": {"channels": [{"channel": "secret", "error": 3403}], "sealed": _SEALED}},
    ],
    "reply": [
        {"reply": {"id": 1, "position": _POSITION}},
        {"reply": {"id": 2, "n": 1, "position": _POSITION, "recovered": True}},
        {"reply": {"id": 4, "result": "Hello Alice"}},
        {"reply": {"id": 5, "publications": [PUBLICATION], "head": _POSITION}},
        {"reply": {"id": 6, "entries": [{"subject": "alice", "client": "app"}]}},
        {"reply": {"id": 8, "error": {"number": 3403, "name": "forbidden"}}},
    ],
    "publication": [{"publication": PUBLICATION}],
    "join": [{"join": {"channel": _CHANNEL, "subject": "alice", "client": "app"}}],
    "leave": [{"leave": {"channel": _CHANNEL, "subject": "alice", "client": "app"}}],
    "subscribe": [{"subscribe": {"channel": _CHANNEL, "position": _POSITION}, "seq": 3}],
    "unsubscribed": [{"unsubscribed": {"channel": _CHANNEL, "error": 3403}, "seq": 5}],
    "reset": [{"reset": {"channel": _CHANNEL, "position": _POSITION}}],
    "expiring": [{"expiring": {"in_s": 47.5}, "seq": 6}],
    "heartbeat": [{"heartbeat": {"at_ms": 1_700_000_000_123, "echo": 3}}],
    "disconnect": [{"disconnect": {"code": 1012, "reason": "draining", "delay_ms": 1_500}}],
}
"""By the field that names the push."""
