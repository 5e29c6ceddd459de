"""Holds what goes over the wire against the published schemas, strictly: a field that they do not name is a fault.

Recorded are the bytes themselves: what clients decode, what the server decodes of them, and every HTTP answer that is
made whole. `as_specified` is for tests that go through a server; importing it in a `conftest.py` turns it on there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Final, cast

import jsonschema_rs
import msgspec
import pytest

import hybrid.client.longpoll
import hybrid.client.uplink
from hybrid.errors import TABLE, ProtocolError
from hybrid.protocol.codec import JSON, MSGPACK
from hybrid.protocol.routes import ROUTES
from hybrid.protocol.routes.shapes import EVERYWHERE, PROBLEM, Route
from hybrid.specifications import openapi_document, schema_file
from hybrid.transports.app import PREFIX
from hybrid.transports.exchange import Exchange
from hybrid.transports.routing import Routing
from tests.support.bytewise import Connection
from tests.support.raw import RawLeg

_QUOTED_MAX: Final = 400
_ANYWHERE: Final = ("not_found", *EVERYWHERE)
"""What is answered where there is no route."""


def strict(schema: Any) -> Any:
    """The same schema, but objects have no other fields than those that it names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        made["additionalProperties"] = False
    return made


@cache
def validator(name: str, *, is_strict: bool = True) -> jsonschema_rs.Draft202012Validator:
    """Of one of the files below `docs/schemas`."""
    document = schema_file(f"{name}.json")
    assert document is not None, name
    return jsonschema_rs.Draft202012Validator(strict(document.value) if is_strict else document.value)


@cache
def answer_validator(path: str, method: str, status: int, media_type: str) -> jsonschema_rs.Draft202012Validator | None:
    """Of one answer as the OpenAPI document has it; None for a body without a schema. Raises KeyError for others."""
    document = openapi_document().value
    answer = document["paths"][path][method.lower()]["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    content = answer["content"][media_type]
    if "schema" not in content:
        return None
    return jsonschema_rs.Draft202012Validator(strict({**content["schema"], "components": document["components"]}))


class Recorder:
    """What was seen, by kind, and what does not fit."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.pushes: Counter[str] = Counter()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []
        self._routing = Routing(PREFIX, ROUTES, {route.operation: cast(Any, route) for route in ROUTES})

    def command(self, value: Any) -> None:
        """A command that the server has taken; a client may send fields that it does not know."""
        self._check(validator("command", is_strict=False), value, "command")
        self.commands[value["method"]] += 1

    def push(self, value: Any) -> None:
        """A push that a client has got."""
        self._check(validator("push"), value, "push")
        self.pushes.update(name for name in value if name != "seq")

    def plain_frame(self, value: Any) -> None:
        """A frame of a plain WebSocket."""
        self._check(validator("reset-frame" if "reset" in value else "publication"), value, "frame")

    def pushes_of(self, schema: str, field: str, raw: bytes) -> None:
        """The body of an answer that holds several."""
        value = json.loads(raw)
        self._check(validator(schema), value, schema)
        names = [name for one in value[field] for name in one] if field == "pushes" else ["reply"] * len(value[field])
        self.pushes.update(name for name in names if name != "seq")

    def answer(self, method: str, path: bytes, status: int, body: bytes, content_type: str) -> None:
        """A whole HTTP answer."""
        route = self._route(method, path)
        if method == "OPTIONS":
            return
        if route is None:
            if json.loads(body)["name"] not in _ANYWHERE:
                self.faults.append(f"{method} {path!r}: {status} {body[:_QUOTED_MAX]!r}")
            return
        self.answers[route.operation, status] += 1
        if content_type == PROBLEM:
            problem = json.loads(body)
            if problem["name"] not in route.all_errors or TABLE[problem["name"]].http_status != status:
                self.faults.append(f"{route.operation} does not say that it answers {problem['name']}")
                return
        media_type = content_type.split(";", 1)[0]
        try:
            known = answer_validator(route.path, route.method, status, media_type) if body else None
        except KeyError:
            self.faults.append(f"{route.operation} does not say that it answers {status} with {media_type}")
            return
        if known is not None:
            self._check(known, json.loads(body), f"{route.operation} {status}")

    def _route(self, method: str, path: bytes) -> Route | None:
        try:
            return cast(Route, self._routing.find(method, path)[0])
        except ProtocolError:
            return None

    def _check(self, against: jsonschema_rs.Draft202012Validator, value: Any, what: str) -> None:
        for error in against.iter_errors(value):
            self.faults.append(f"{what} {str(value)[:_QUOTED_MAX]}: {error.message[:_QUOTED_MAX]}")


def recording(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A recorder of everything that goes over the wire in this process until the test ends."""
    recorder = Recorder()
    for codec, decode in ((JSON, json.loads), (MSGPACK, msgspec.msgpack.decode)):
        _tap(monkeypatch, codec, "decode_command", decode, recorder.command)
        _tap(monkeypatch, codec, "decode_push", decode, recorder.push)
    _tap(monkeypatch, hybrid.client.longpoll, "_decode_pushes", bytes, partial(recorder.pushes_of, "pushes", "pushes"))
    _tap(monkeypatch, hybrid.client.uplink, "_decode_replies", bytes, partial(recorder.pushes_of, "replies", "replies"))
    _tap_hands(monkeypatch, recorder)
    _tap_answers(monkeypatch, recorder)
    return recorder


def _tap(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    read: Callable[[bytes], Any],
    record: Callable[[Any], None],
) -> None:
    """Record what a decoder was given, once it has taken it."""
    decode = getattr(owner, name)

    def tapped(raw: bytes, *rest: Any, **named: Any) -> Any:
        decoded = decode(raw, *rest, **named)
        record(read(raw))
        return decoded

    monkeypatch.setattr(owner, name, tapped)


def _tap_hands(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    """What tests read that speak by hand, on sessions and on plain WebSockets."""
    following, pushed = RawLeg.next, Connection.push

    async def tapped(self: RawLeg, *names: str) -> dict[str, Any]:
        known = len(self.seen)
        push = await following(self, *names)
        for one in self.seen[known:] or (push,):  # heartbeats are not among those that were seen
            recorder.push(one)
        return push

    async def tapped_frame(self: Connection) -> Any:
        frame = await pushed(self)
        if "channel" in frame:
            recorder.plain_frame(frame)
        else:
            recorder.push(frame)
        return frame

    monkeypatch.setattr(RawLeg, "next", tapped)
    monkeypatch.setattr(Connection, "push", tapped_frame)


def _tap_answers(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    respond = Exchange.respond

    async def tapped(
        self: Exchange, status: int, body: bytes = b"", *, content_type: str = "application/json", **rest: Any
    ) -> None:
        if "path" in self.scope:  # some tests make one by hand, of a header or two
            recorder.answer(self.method, self.raw_path, status, body, content_type)
        await respond(self, status, body, content_type=content_type, **rest)

    monkeypatch.setattr(Exchange, "respond", tapped)


@pytest.fixture(autouse=True)
def as_specified(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Whatever a test sends and gets has to be as the published documents say."""
    recorder = recording(monkeypatch)
    yield recorder
    assert recorder.faults == [], "\n".join(map(str, recorder.faults[:3]))
