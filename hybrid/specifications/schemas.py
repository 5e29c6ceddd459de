"""JSON Schemas (draft 2020-12) of everything on the wire, from the types that parse and write it.

A receiver ignores fields that it does not know, so the schemas do not forbid any; a message of an unknown kind fits
none of them. Bounds that are settings stand with their defaults.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from hybrid.hooks.messages import Answer, CallAnswer, Told
from hybrid.protocol.commands import AnyCommand, Attach, CommandPost
from hybrid.protocol.management import BroadcastAnswer, BroadcastRequest
from hybrid.protocol.pushes import Push, WirePublication
from hybrid.protocol.requests import (
    BatchAnswer,
    BatchBody,
    BundleItem,
    HistoryPage,
    PingAnswer,
    PollPage,
    PresenceList,
    Problem,
    Published,
    PushList,
    ReplyList,
    ResetEvent,
    ResetFrame,
    Revoked,
    RevokeRequest,
    StreamRequest,
    TicketAnswer,
    TicketRequest,
)
from hybrid.specifications.document import Document
from hybrid.specifications.webhooks import Question

REFS: Final = {
    "openapi": "#/components/schemas/{name}",
    "asyncapi": "#/components/schemas/{name}",
    "schema": "#/$defs/{name}",
}
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILES: Final[dict[str, tuple[Any, str]]] = {
    "command": (AnyCommand, "A command of a session: client to server."),
    "push": (Push, "A push or a reply of a session: server to client."),
    "stream-request": (StreamRequest, "The body of `POST /v1/stream`."),
    "pushes": (PushList, "The answer of `POST /v1/stream` to an attach or a poll."),
    "command-post": (CommandPost, "The body of `POST /v1/command`."),
    "replies": (ReplyList, "The answer of `POST /v1/command`."),
    "publication": (WirePublication, "A publication, as plain WebSockets and polls bring it."),
    "reset-frame": (ResetFrame, "The frame of a plain WebSocket whose cursor cannot be continued."),
    "reset-event": (ResetEvent, "The data of `event: hybrid.reset` on a plain event stream."),
    "bundle-item": (BundleItem, "The data of an event on a plain event stream of several channels."),
    "poll-page": (PollPage, "The answer to a plain long poll."),
    "published": (Published, "The answer to a publish."),
    "batch": (BatchBody, "The body of `POST /v1/publish`."),
    "batch-answer": (BatchAnswer, "The answer of `POST /v1/publish`."),
    "history-page": (HistoryPage, "The answer of `GET /v1/history/{channel}`."),
    "presence-list": (PresenceList, "The answer of `GET /v1/presence/{channel}`."),
    "broadcast-request": (BroadcastRequest, "The body of `POST /v1/broadcast`."),
    "broadcast-answer": (BroadcastAnswer, "The answer of `POST /v1/broadcast`."),
    "ticket-request": (TicketRequest, "The body of `POST /v1/ticket`."),
    "ticket": (TicketAnswer, "The answer of `POST /v1/ticket`."),
    "revoke-request": (RevokeRequest, "The body of `POST /v1/revoke`."),
    "revoked": (Revoked, "The answer of `POST /v1/revoke`."),
    "ping": (PingAnswer, "The answer of `GET /v1/ping`."),
    "problem": (Problem, "The body of every HTTP error: `application/problem+json`."),
    "hook-question": (Question, "What an application's backend is asked."),
    "hook-answer": (Answer, "The backend's answer to `connect`, `subscribe` and `publish`."),
    "hook-call-answer": (CallAnswer, "The backend's answer to `call`."),
    "hook-events": (Told, "What an application's backend is told."),
}
"""The files below `/v1/schemas` and `docs/schemas`: what each is of, and in words."""

_INSIDE: Final[dict[tuple[str, str], Any]] = {
    ("CommandPost", "commands"): list[AnyCommand],
    ("TicketRequest", "attach"): Attach,
}
"""What stands in fields that are decoded later, on their own: to the decoder around them they are raw."""


def _one_of(*names: str) -> dict[str, Any]:
    return {"oneOf": [{"required": [name], "properties": {name: {"type": "string", "minLength": 1}}} for name in names]}


_BEYOND: Final[dict[str, Any]] = {
    "RevokeRequest": _one_of("jti", "sid", "subject", "client"),
    "Revoked": _one_of("jti", "sid", "subject", "client"),
    "SubscribeRequest": _one_of("subject", "client", "session"),
    "DisconnectRequest": _one_of("subject", "client", "session"),
    "TicketRequest": {
        "oneOf": [
            {
                "required": ["channels"],
                "properties": {"purpose": {"const": "channels"}, "channels": {"minItems": 1}},
            },
            {"required": ["attach"], "properties": {"purpose": {"const": "session"}}},
        ]
    },
    "WirePosition": {
        "oneOf": [
            {"properties": {"offset": {"const": 0}, "epoch": {"const": ""}, "tag": {"const": ""}}},
            {
                "required": ["epoch", "tag"],
                "properties": {"offset": {"minimum": 1}, "epoch": {"minLength": 1}, "tag": {"minLength": 8}},
            },
        ]
    },
}
"""What a type cannot say, and the code that reads it checks: which fields go together."""


def components(kinds: Sequence[Any], document: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The schemas of `kinds`, and by name those of all structs in them.

    `document` is what they are for, "openapi", "asyncapi" or "schema": each refers to others, and says by which field
    kinds are told apart, in its own way.
    """
    template = REFS[document]
    inside = list(_INSIDE.values())
    found, named = msgspec.json.schema_components([*kinds, *inside], ref_template=template)
    for (owner, field), schema in zip(_INSIDE, found[len(kinds) :], strict=True):
        if owner in named:
            named[owner]["properties"][field] = schema
    if "Push" in named:
        named["Push"] = _envelope(named["Push"])
    for name, rules in _BEYOND.items():
        if name in named:
            named[name] |= copy.deepcopy(rules)
    if "TicketRequest" in named:  # with the other purpose nobody looks at an attach
        ticket = named["TicketRequest"]
        ticket["oneOf"][1]["properties"]["attach"] = ticket["properties"].pop("attach")
    schemas = [_tidy(schema, document) for schema in found[: len(kinds)]]
    tidied = {name: _tidy(schema, document) for name, schema in named.items()}
    return schemas, {name: tidied[name] for name in sorted(_reached(schemas, tidied, template))}


def push_names() -> tuple[str, ...]:
    """The pushes there are; a reply is one of them."""
    return tuple(field for field in Push.__struct_fields__ if field != "seq")


def schema_file(name: str) -> Document | None:
    """One file of `FILES`, `NAME.json`; None where there is none."""
    stem = name.removesuffix(".json")
    return _made(stem) if stem in FILES and stem != name else None


@cache
def _made(stem: str) -> Document:
    kind, words = FILES[stem]
    (schema,), named = components([kind], "schema")
    head = {"$schema": DIALECT, "$id": f"urn:hybrid:v1:{stem}", "description": words}
    return Document({**head, **schema, "$defs": named})


def _envelope(push: dict[str, Any]) -> dict[str, Any]:
    """A push has exactly one of its fields, and `seq` where it is numbered; the type alone would permit any of them."""
    properties = dict(push["properties"])
    seq = properties.pop("seq")
    kinds = []
    for name, schema in properties.items():
        value = next(one for one in schema["anyOf"] if one != {"type": "null"})
        numbered = {"seq": seq} if name in ("subscribe", "unsubscribed", "expiring") else {}
        kinds.append({"title": name, "type": "object", "properties": {name: value, **numbered}, "required": [name]})
    return {"title": push["title"], "description": push["description"], "oneOf": kinds}


def _tidy(schema: Any, document: str) -> Any:
    """As others write it: no regular expressions of Python's kind, no indented descriptions, no empty lists."""
    if isinstance(schema, list):
        return [_tidy(item, document) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {name: _tidy(value, document) for name, value in schema.items()}
    if isinstance(tidied.get("discriminator"), dict) and document != "openapi":
        field = tidied.pop("discriminator")["propertyName"]
        if document == "asyncapi":
            tidied["discriminator"] = field
    if isinstance(tidied.get("pattern"), str):
        tidied["pattern"] = tidied["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    for bound in ("minimum", "maximum"):  # equal types are one to Python, whether 3600 or 3600.0 was written first
        if isinstance(tidied.get(bound), float) and tidied[bound].is_integer():
            tidied[bound] = int(tidied[bound])
    if isinstance(tidied.get("description"), str):
        tidied["description"] = inspect.cleandoc(tidied["description"])
    if tidied.get("required") == []:
        del tidied["required"]
    if "default" in tidied and tidied["default"] is None:
        del tidied["default"]
    return tidied


def _reached(schemas: Iterable[Any], named: dict[str, Any], template: str) -> set[str]:
    """The names that schemas refer to, directly or through others."""
    before, _, after = template.partition("{name}")
    reached: set[str] = set()
    waiting: list[Any] = list(schemas)
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
            ref = item.get("$ref")
            if isinstance(ref, str):
                name = ref.removeprefix(before).removesuffix(after)
                if name not in reached:
                    reached.add(name)
                    waiting.append(named[name])
    return reached
