from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hybrid.model import Publication
from hybrid.protocol.codec import JSON, MSGPACK
from hybrid.protocol.eventstream import Event, EventStreamParser
from hybrid.protocol.publications import (
    bundle_event,
    data_of,
    plain_event,
    plain_json,
    session_event,
    session_json,
    session_msgpack,
    wire_publication,
)


def publication(data: bytes = b'{"x":1}', **options: Any) -> Publication:
    return Publication("chat:é", 42, "k3f9", "9c1d07aa", data, **options)


PLACE = {"channel": "chat:é", "offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}
BINARY = publication(b'{"base64":"QQ=="}', is_binary=True)


def test_session_json() -> None:
    assert session_json(publication()).decode() == (
        '{"publication":{"channel":"chat:é","offset":42,"epoch":"k3f9","tag":"9c1d07aa","data":{"x":1}}}'
    )
    assert json.loads(session_json(publication(type="said"))) == {
        "publication": {**PLACE, "data": {"x": 1}, "type": "said"}
    }
    assert json.loads(session_json(BINARY)) == {"publication": {**PLACE, "data": {"base64": "QQ=="}, "binary": True}}


def test_plain_json_is_the_inner_object() -> None:
    for p in (publication(), publication(type="said"), BINARY):
        assert b'{"publication":' + plain_json(p) + b"}" == session_json(p)


@pytest.mark.parametrize("data", [b"null", b"false", b"0", b'""', b"[]"])
def test_data_is_never_left_out(data: bytes) -> None:
    """With a default for `data`, null was left out of the wire."""
    assert json.loads(plain_json(publication(data)))["data"] == json.loads(data)
    assert msgspec.msgpack.decode(session_msgpack(publication(data)))["publication"]["data"] == json.loads(data)


@pytest.mark.parametrize("data", [b'{"a":1,"a":2}', b"9007199254740993", b"1.50", b'"\\u00e9"'])
def test_json_is_passed_on_as_it_was_published(data: bytes) -> None:
    assert b'"data":' + data + b"}" in session_json(publication(data))


def test_session_event() -> None:
    assert session_event(publication()) == b"data: " + session_json(publication()) + b"\n\n"


def test_session_msgpack() -> None:
    decode = msgspec.msgpack.decode
    assert decode(session_msgpack(publication(type="said"))) == {
        "publication": {**PLACE, "data": {"x": 1}, "type": "said"}
    }
    assert decode(session_msgpack(BINARY)) == {"publication": {**PLACE, "data": b"A", "binary": True}}


def test_both_session_encodings_say_the_same_to_a_client() -> None:
    for p, data in ((publication(), {"x": 1}), (BINARY, b"A")):
        pushes = [JSON.decode_push(session_json(p)), MSGPACK.decode_push(session_msgpack(p))]
        for push in pushes:
            assert push.publication is not None
            assert push.publication.offset == 42
            assert data_of(push.publication) == data


def test_plain_event() -> None:
    assert plain_event(publication()) == b'id: k3f9-42-9c1d07aa\ndata: {"x":1}\n\n'
    assert plain_event(publication(type="said")) == b'id: k3f9-42-9c1d07aa\nevent: said\ndata: {"x":1}\n\n'


def test_bundle_event() -> None:
    parser = EventStreamParser()
    cursor = "chat%3A%C3%A9=k3f9-42-9c1d07aa,news=0"
    events = parser.feed(bundle_event(publication(), cursor) + bundle_event(publication(type="said"), cursor))
    body = '{"channel":"chat:é","data":{"x":1}}'
    assert events == [Event(body, "message", cursor), Event(body, "said", cursor)]


def test_wire_publication_is_written_in_a_json_reply() -> None:
    assert msgspec.json.encode(wire_publication(publication())) == plain_json(publication())
