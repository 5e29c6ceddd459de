from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ProtocolError
from hybrid.limits import OFFSET_MAX
from hybrid.model import Publication
from hybrid.protocol.codec import JSON, MSGPACK, decode_post
from hybrid.protocol.publications import (
    data_of,
    plain_event,
    plain_json,
    session_event,
    session_json,
    session_msgpack,
    wire_publication,
)
from hybrid.protocol.pushes import Push, Reply

MAX_BYTES = 69_632

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
numbers = st.integers(0, OFFSET_MAX)
names = st.text("abc:/é", min_size=1, max_size=5)
positions = st.just({"offset": 0}) | st.fixed_dictionaries(
    {"offset": st.integers(1, OFFSET_MAX), "epoch": st.just("k3f9"), "tag": st.just("9c1d07aa")}
)
subscriptions = st.lists(
    st.fixed_dictionaries({"channel": names}, optional={"position": positions, "history": st.integers(1, 1000)}),
    max_size=4,
    unique_by=lambda item: str(item["channel"]),
)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)


def method(name: str, required: dict[str, Any] | None = None, **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"method": st.just(name), **(required or {})}, optional={"id": st.integers(1, OFFSET_MAX), **optional}
    )


# Only values that are not the default: those are left out when a command is written again.
counted = st.integers(1, OFFSET_MAX)
commands = st.one_of(
    method("auth", {"token": text.filter(bool)}),
    method(
        "attach",
        attempt=counted,
        nonce=text.filter(bool),
        session=text.filter(bool),
        last_seq=counted,
        confirm=st.just(True),
        client=st.just({"name": "n", "version": "v"}),
        subscriptions=subscriptions.filter(bool),
    ),
    method("confirm", {"attempt": numbers}, subscriptions=subscriptions),
    method("subscribe", {"channel": names}, n=counted, position=positions, history=st.integers(1, 1000)),
    method("unsubscribe", {"channel": names}, n=counted, sealed=text.filter(bool)),
    method("publish", {"channel": names, "data": data}, key=text.filter(bool), type=st.just("said")),
    method("history", {"channel": names}, after=positions, limit=st.integers(1, 99), reverse=st.just(True)),
    method("presence", {"channel": names}),
    method("refresh", token=text.filter(bool), n=counted),
    method("heartbeat", last_seq=counted),
    method("poll", {"session": text, "attempt": numbers}, last_seq=counted, sealed=text.filter(bool)),
)


@given(commands)
def test_both_codecs_read_every_command_alike(command: dict[str, Any]) -> None:
    from_json = JSON.decode_command(json.dumps(command).encode(), MAX_BYTES)
    from_msgpack = MSGPACK.decode_command(msgspec.msgpack.encode(command), MAX_BYTES)
    assert type(from_json) is type(from_msgpack)
    assert json.loads(msgspec.json.encode(from_json)) == command
    assert json.loads(msgspec.json.encode(from_msgpack)) == command
    assert JSON.command_id(json.dumps(command).encode()) == command.get("id", 0)


@st.composite
def damaged(draw: st.DrawFn, encode: Any) -> bytes:
    """A command in which a few bytes were changed, cut out or put in."""
    raw = bytearray(encode(draw(commands)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(raw)


@settings(max_examples=300)
@given(damaged(msgspec.json.encode) | st.binary(max_size=80))
def test_whatever_comes_is_a_command_or_one_error_json(raw: bytes) -> None:
    judge(JSON, raw)
    refusal = refusal_of(lambda: decode_post(raw, max_bytes=MAX_BYTES, commands_max=2))
    assert refusal is None or refusal.row.name in ("bad_request", "too_large")


@settings(max_examples=300)
@given(damaged(msgspec.msgpack.encode) | st.binary(max_size=80))
def test_whatever_comes_is_a_command_or_one_error_msgpack(raw: bytes) -> None:
    judge(MSGPACK, raw)


def judge(codec: Any, raw: bytes) -> None:
    assert codec.command_id(raw) >= 0
    refusal = refusal_of(lambda: codec.decode_command(raw, MAX_BYTES))
    if refusal is not None:
        assert refusal.row.name in ("bad_request", "method_unknown")
        assert len(refusal.detail) <= 200
    refusal = refusal_of(lambda: codec.decode_push(raw))
    assert refusal is None or refusal.row.name == "bad_request"


def refusal_of(call: Callable[[], object]) -> ProtocolError | None:
    """Any other exception than a ProtocolError fails the test."""
    try:
        call()
    except ProtocolError as error:
        return error
    return None


@st.composite
def publications(draw: st.DrawFn) -> Publication:
    value = json.dumps(draw(data), ensure_ascii=draw(st.booleans())).encode()
    return Publication(
        draw(names),
        draw(st.integers(1, OFFSET_MAX)),
        "k3f9",
        "9c1d07aa",
        value,
        draw(st.none() | st.just("said")),
    )


@given(publications())
def test_every_payload_says_the_same(publication: Publication) -> None:
    value = json.loads(publication.data)
    expected = JSON.decode_push(session_json(publication)).publication
    assert expected is not None
    assert expected.data == value
    assert (expected.channel, expected.offset, expected.type) == (
        publication.channel,
        publication.offset,
        publication.type,
    )
    assert MSGPACK.decode_push(session_msgpack(publication)).publication == expected
    assert json.loads(plain_json(publication)) == msgspec.to_builtins(expected)
    assert session_event(publication).count(b"\n") == 2
    assert plain_event(publication).endswith(b"\ndata: " + publication.data + b"\n\n")


@given(st.lists(publications(), max_size=4))
def test_history_reply_in_both_codecs(kept: list[Publication]) -> None:
    push = Push(reply=Reply(id=1, publications=[wire_publication(publication) for publication in kept]))
    for codec in (JSON, MSGPACK):
        reply = codec.decode_push(codec.encode_push(push)).reply
        assert reply is not None
        assert reply.publications is not None
        assert [data_of(item) for item in reply.publications] == [json.loads(item.data) for item in kept]
