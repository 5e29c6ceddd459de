"""Sessions and plain streams as AsyncAPI 3, with every command and push as a message."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final, get_args

from hybrid import __version__
from hybrid.protocol.commands import AnyCommand, CommandPost
from hybrid.protocol.pushes import Push, WirePublication
from hybrid.protocol.requests import BundleItem, PushList, ReplyList, ResetEvent, ResetFrame
from hybrid.protocol.routes.channels import PUBLICATION
from hybrid.protocol.routes.sessions import ATTACHED
from hybrid.specifications.document import Document
from hybrid.specifications.examples import COMMANDS, PUSHES
from hybrid.specifications.schemas import components, push_names

_TEXT: Final = (
    "Sessions of client libraries, and plain channels for clients without one. What a session says is the same over "
    "each of its three carriers: a WebSocket carries commands up and pushes down; an event stream carries pushes down, "
    "long polls bring them in their answers, and for both of these commands are posted. The HTTP side is in the "
    "OpenAPI document. A receiver ignores fields that it does not know."
)
_SERVERS: Final[dict[str, Any]] = {
    "websocket": {
        "host": "{host}",
        "protocol": "wss",
        "description": "WebSocket (RFC 6455); `ws` only on one machine.",
    },
    "http": {
        "host": "{host}",
        "protocol": "https",
        "description": "HTTP, for event streams (WHATWG HTML, section 9.2), long polls and posted commands.",
    },
}
_HOST: Final = {"host": {"default": "live.example.com", "description": "Where the server is."}}
_SECURITY: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token in the Authorization header; or, where a WebSocket's client cannot set one, in "
        "`auth` as the first frame.",
    },
    "dpop": {"type": "http", "scheme": "DPoP", "description": "A token that is bound to a key (RFC 9449)."},
    "ticket": {
        "type": "httpApiKey",
        "in": "query",
        "name": "ticket",
        "description": "Of an event stream: a ticket of `POST /v1/ticket`.",
    },
}
_BODIES: Final[dict[str, tuple[Any, str, Any]]] = {
    "commandPost": (
        CommandPost,
        "Commands of a session that cannot send on its stream",
        {"session": "n1.6f1c2a", "commands": [COMMANDS["publish"]], "last_seq": 4},
    ),
    "replies": (
        ReplyList,
        "Their replies",
        {"replies": [{"id": 1, "position": {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}}]},
    ),
    "pushes": (PushList, "Pushes, in the answer to an attach or a poll", {"pushes": [ATTACHED]}),
    "plainPublication": (WirePublication, "A publication without an envelope", PUBLICATION),
    "plainEvent": (
        Any,
        "The data of a publication as it was published; `id` is the cursor, `event` the type",
        {"text": "hello"},
    ),
    "plainBundleEvent": (
        BundleItem,
        "The data of a publication, on a stream of several channels; `id` is composite",
        {"channel": "chat:lobby", "data": {"text": "hello"}},
    ),
    "plainResetEvent": (
        ResetEvent,
        "`event: hybrid.reset`: the cursor could not be continued; this is where it goes on",
        {"channel": "chat:lobby", "cursor": "k3f9-42-9c1d07aa"},
    ),
    "plainReset": (
        ResetFrame,
        "The cursor could not be continued; this is where it goes on",
        {"channel": "chat:lobby", "reset": {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}},
    ),
}


@cache
def asyncapi_document() -> Document:
    """The document, made once."""
    return Document(describe())


def command_names() -> tuple[str, ...]:
    """The methods there are."""
    return tuple(kind.__struct_config__.tag for kind in get_args(AnyCommand))


def describe() -> dict[str, Any]:
    """The document."""
    kinds = (*get_args(AnyCommand), *(kind for kind, _, _ in _BODIES.values()))
    found, schemas = components([*kinds, Push], "asyncapi")
    commands = dict(zip(command_names(), found, strict=False))
    bodies = dict(zip(_BODIES, found[len(commands) :], strict=False))
    messages = {
        **{name: _command(name, schema, schemas) for name, schema in commands.items()},
        **{f"{name}Push": _push(name, schemas) for name in push_names()},
        **{name: _message(name, summary, bodies[name], [example]) for name, (_, summary, example) in _BODIES.items()},
    }
    channels = _channels()
    return {
        "asyncapi": "3.0.0",
        "id": "urn:hybrid:v1",
        "info": {
            "title": "hybrid",
            "version": __version__,
            "description": _TEXT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {name: {**server, "variables": _HOST} for name, server in _SERVERS.items()},
        "channels": channels,
        "operations": _operations(channels),
        "components": {"schemas": schemas, "messages": messages, "securitySchemes": _SECURITY},
    }


def _command(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    summary = str(schemas[schema["$ref"].rsplit("/", 1)[1]]["description"]).split("\n", 1)[0]
    return _message(name, summary, schema, [COMMANDS[name]])


def _push(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    payload = next(one for one in schemas["Push"]["oneOf"] if one["required"] == [name])
    summary = str(schemas[payload["properties"][name]["$ref"].rsplit("/", 1)[1]]["description"]).split("\n", 1)[0]
    return _message(name, summary, payload, PUSHES[name])


def _message(name: str, summary: str, payload: dict[str, Any], examples: list[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"payload": example} for example in examples],
    }


def _channels() -> dict[str, Any]:
    commands, pushes = command_names(), [f"{name}Push" for name in push_names()]
    posted = ("attach", "poll")
    on_socket = [name for name in commands if name != "poll"]
    streamed = [name for name in pushes if name != "replyPush"]
    plain_channel = {
        "channel": {"description": "The channel's name, percent-encoded as one segment.", "examples": ["chat%3Alobby"]}
    }
    return {
        "session": _channel(
            "websocket",
            "/v1/stream",
            "A session over a WebSocket: subprotocol `hybrid.v1` (JSON in text frames; a frame may carry several "
            "messages, one per line) or `hybrid.v1.msgpack` (MessagePack in binary frames).",
            (*on_socket, *pushes),
            bindings={"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        ),
        "sessionEvents": _channel(
            "http",
            "/v1/stream",
            "A session's event stream, opened by posting an attach with `Accept: text/event-stream`, or by a ticket. "
            "Each push is the `data` of one event.",
            ("attach", *streamed),
        ),
        "sessionPolls": _channel(
            "http", "/v1/stream", "A session's long polls: an attach, then polls.", (*posted, "pushes")
        ),
        "commands": _channel(
            "http", "/v1/command", "The way up beside event streams and long polls.", ("commandPost", "replies")
        ),
        "channelSocket": {
            **_channel(
                "websocket",
                "/v1/channels/{channel}",
                "One channel over a WebSocket, a text frame for each publication; several with "
                "`/v1/channels?name=A&name=B`. A client that cannot set a header sends `auth` first, and nothing else.",
                ("auth", "plainPublication", "plainReset"),
                bindings={"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            ),
            "parameters": plain_channel,
        },
        "channelEvents": {
            **_channel(
                "http",
                "/v1/channels/{channel}",
                "One channel as an event stream; several with `/v1/channels?name=A&name=B`. Heartbeats are comments.",
                ("plainEvent", "plainBundleEvent", "plainResetEvent"),
            ),
            "parameters": plain_channel,
        },
    }


def _channel(
    server: str, address: str, text: str, messages: Iterable[str], bindings: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "address": address,
        "description": text,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        **({"bindings": bindings} if bindings else {}),
    }


def _operations(channels: dict[str, Any]) -> dict[str, Any]:
    """From the server's side: it receives commands and sends pushes."""
    commands = set(command_names()) | {"commandPost"}
    found: dict[str, Any] = {}
    for channel, said in channels.items():
        up = [name for name in said["messages"] if name in commands]
        down = [name for name in said["messages"] if name not in commands]
        is_asked = channel in ("sessionPolls", "commands")
        title = channel[0].upper() + channel[1:]
        credentials = ("bearer", "dpop", "ticket") if channel.endswith("Events") else ("bearer", "dpop")
        security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in credentials]
        if up:
            found[f"receive{title}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": "What a client says",
                "messages": _refs(channel, up),
                "security": security,
                **(
                    {"reply": {"channel": {"$ref": f"#/channels/{channel}"}, "messages": _refs(channel, down)}}
                    if is_asked
                    else {}
                ),
            }
        if not is_asked:
            found[f"send{title}"] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": "What the server says",
                "messages": _refs(channel, down),
                "security": security,
            }
    return found


def _refs(channel: str, names: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]
