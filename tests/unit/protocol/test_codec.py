from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from hybrid.errors import TABLE, BrokerError, ChannelError, HybridError, ProtocolError
from hybrid.model import Publication
from hybrid.protocol.codec import (
    JSON,
    MSGPACK,
    Codec,
    decode_command,
    decode_commands,
    decode_post,
    error_reply,
    problem,
    push_event,
    wire_error,
)
from hybrid.protocol.commands import Heartbeat, Publish
from hybrid.protocol.publications import wire_publication
from hybrid.protocol.pushes import HeartbeatPush, Push, Reply
from tests.support.vectors import attempt, outcome, vectors, wire_of

MAX_BYTES = 69_632


def error_of(call: Any, *arguments: Any, **options: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.mark.parametrize("case", vectors("commands"))
def test_json_command(case: dict[str, Any]) -> None:
    def decode(raw: bytes) -> Any:
        return json.loads(msgspec.json.encode(decode_command(raw, MAX_BYTES)))

    assert attempt(decode, wire_of(case)) == outcome(case)


@pytest.mark.parametrize("case", vectors("commands_msgpack"))
def test_msgpack_command(case: dict[str, Any]) -> None:
    def decode(raw: bytes) -> Any:
        return json.loads(msgspec.json.encode(MSGPACK.decode_command(raw, MAX_BYTES)))

    assert attempt(decode, wire_of(case)) == outcome(case)


@pytest.mark.parametrize("case", vectors("pushes"))
def test_json_push(case: dict[str, Any]) -> None:
    def through(raw: bytes) -> Any:
        return json.loads(JSON.encode_push(JSON.decode_push(raw)))

    assert attempt(through, wire_of(case)) == outcome(case)


def with_bytes_shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_bytes_shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_bytes_shown(item) for item in value]
    return {"$bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@pytest.mark.parametrize("case", vectors("pushes_msgpack"))
def test_msgpack_push(case: dict[str, Any]) -> None:
    def decode(raw: bytes) -> Any:
        return with_bytes_shown(msgspec.to_builtins(MSGPACK.decode_push(raw), builtin_types=(bytes,)))

    assert attempt(decode, wire_of(case)) == outcome(case)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_history_in_a_reply_is_what_was_published(codec: Codec) -> None:
    kept = [
        Publication("a", 1, "k", "00000001", b'{"x":[1,null]}'),
        Publication("a", 2, "k", "00000002", b"null", type="said"),
        Publication("a", 3, "k", "00000003", b'{"base64":"QQ=="}', is_binary=True),
    ]
    push = Push(reply=Reply(id=1, publications=[wire_publication(publication) for publication in kept]))
    decoded = codec.decode_push(codec.encode_push(push))
    assert decoded.reply is not None
    assert decoded.reply.publications is not None
    binary = b"A" if codec.is_binary else {"base64": "QQ=="}
    assert [item.data for item in decoded.reply.publications] == [{"x": [1, None]}, None, binary]
    assert [item.offset for item in decoded.reply.publications] == [1, 2, 3]
    single = Push(publication=wire_publication(kept[2]))
    assert codec.decode_push(codec.encode_push(single)).publication == decoded.reply.publications[2]


def test_names() -> None:
    assert (JSON.name, JSON.is_binary) == ("json", False)
    assert (MSGPACK.name, MSGPACK.is_binary) == ("msgpack", True)


def test_data_of_a_publish_is_found_but_not_yet_checked() -> None:
    command = decode_command(b'{"method":"publish","channel":"a","data":{"x": 1e999}}', MAX_BYTES)
    assert isinstance(command, Publish)
    assert bytes(command.data) == b'{"x": 1e999}'


def test_size() -> None:
    raw = b'{"method":"heartbeat"}'
    assert decode_command(raw, len(raw)) == Heartbeat()
    assert error_of(decode_command, raw, len(raw) - 1).row.name == "too_large"
    packed = msgspec.msgpack.encode({"method": "heartbeat"})
    assert MSGPACK.decode_command(packed, len(packed)) == Heartbeat()
    assert error_of(MSGPACK.decode_command, packed, len(packed) - 1).row.name == "too_large"
    assert error_of(MSGPACK.split, packed, max_bytes=3, commands_max=1).row.name == "too_large"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"method":"heartbeat","x":' + b"[" * 50_000,
        b'{"method":"publish","channel":"a","data":' + b'{"a":' * 12_000,
        b"[" * 60_000,
    ],
)
def test_nesting_without_end(raw: bytes) -> None:
    assert error_of(decode_command, raw, MAX_BYTES).row.name == "bad_request"
    assert JSON.command_id(raw) == 0


@pytest.mark.parametrize("opening", [b"\x82\xa6method\xa9heartbeat\xa1x", b"\x83\xa6method\xa7publish\xa4data", b""])
def test_nesting_without_end_in_messagepack(opening: bytes) -> None:
    raw = opening + b"\x91" * 50_000
    assert error_of(MSGPACK.decode_command, raw, MAX_BYTES).row.name == "bad_request"
    assert MSGPACK.command_id(raw) == 0


SECRET = "s3cr3t-t0k3n"


@pytest.mark.parametrize(
    "command",
    [
        {"method": SECRET},
        {"method": "auth", "token": [SECRET]},
        {"method": "subscribe", "channel": SECRET + "*"},
        {"method": "subscribe", "channel": SECRET * 100},
        {"method": "subscribe", "channel": "a", "position": {"offset": 1, "epoch": SECRET, "tag": SECRET}},
        {"method": "publish", "channel": "a", "data": 1, "type": SECRET + " "},
        {"method": "publish", "channel": "a", "data": 1, "key": SECRET * 100},
        {"method": "attach", "nonce": SECRET * 100},
        {"method": "attach", "client": SECRET},
        {"method": "attach", "subscriptions": {SECRET: 1}},
        {SECRET: {SECRET: [SECRET]}},
    ],
)
def test_detail_helps_and_quotes_nothing(command: dict[str, Any]) -> None:
    for codec, raw in ((JSON, msgspec.json.encode(command)), (MSGPACK, msgspec.msgpack.encode(command))):
        error = error_of(codec.decode_command, raw, MAX_BYTES)
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        assert error.__cause__ is None
        assert len(error.detail) <= 200
        assert error.detail or error.row.name == "method_unknown"


def test_detail_names_the_field() -> None:
    raw = b'{"method":"attach","subscriptions":[{"channel":"a"},{"channel":"b","position":{"offset":-1}}]}'
    assert "subscriptions[1].position.offset" in error_of(decode_command, raw, MAX_BYTES).detail


@pytest.mark.parametrize(
    ("command", "id"),
    [
        ({"method": "frobnicate", "id": 7}, 7),
        ({"id": 2**53 - 1}, 2**53 - 1),
        ({"id": 2**53}, 0),
        ({"id": -1}, 0),
        ({"id": True}, 0),
        ({"id": 1.5}, 0),
        ({"id": "7"}, 0),
        ({"id": {"a": 1}}, 0),
        ({}, 0),
        ([1], 0),
    ],
)
def test_id_of_a_refused_command(command: Any, id: int) -> None:
    assert JSON.command_id(msgspec.json.encode(command)) == id
    assert MSGPACK.command_id(msgspec.msgpack.encode(command)) == id


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b"\xc1", b'{"id":' + b"9" * 6_000 + b"}", b"\x81\xa2id\x81\x80\x01"]
)
def test_id_of_a_command_that_is_none(raw: bytes) -> None:
    assert JSON.command_id(raw) == 0
    assert MSGPACK.command_id(raw) == 0


def test_text_frame_of_several_commands() -> None:
    beat = b'{"method":"heartbeat"}'
    frame = beat + b"\n\n \r\n" + b'{"method":"heartbeat","last_seq":2}\r\n'
    assert decode_commands(frame, max_bytes=MAX_BYTES, commands_max=2) == [Heartbeat(), Heartbeat(last_seq=2)]
    assert JSON.split(beat, max_bytes=MAX_BYTES, commands_max=2) == [beat]
    assert JSON.split(b"\n", max_bytes=MAX_BYTES, commands_max=2) == []
    assert JSON.split(b"", max_bytes=MAX_BYTES, commands_max=2) == [b""]
    assert len(JSON.split((beat + b"\n") * 3, max_bytes=MAX_BYTES, commands_max=3)) == 3
    assert error_of(JSON.split, (beat + b"\n") * 4, max_bytes=MAX_BYTES, commands_max=3).row.name == "too_large"
    assert error_of(JSON.split, beat, max_bytes=len(beat) - 1, commands_max=3).row.name == "too_large"
    assert error_of(decode_commands, beat + b"\n{", max_bytes=99, commands_max=3).row.name == "bad_request"


def test_binary_frame_is_one_command() -> None:
    assert MSGPACK.split(b"\n\n", max_bytes=2, commands_max=1) == [b"\n\n"]


def test_body_of_a_command_post() -> None:
    raw = b'{"session":"s","commands":[{"method":"frobnicate","id":1}, {"method":"heartbeat"}],"last_seq":3}'
    post = decode_post(raw, max_bytes=MAX_BYTES, commands_max=2)
    assert (post.session, post.last_seq) == ("s", 3)
    assert [bytes(command) for command in post.commands] == [
        b'{"method":"frobnicate","id":1}',
        b'{"method":"heartbeat"}',
    ]
    assert error_of(decode_post, raw, max_bytes=MAX_BYTES, commands_max=1).row.name == "too_large"
    assert error_of(decode_post, raw, max_bytes=20, commands_max=2).row.name == "too_large"
    for bad in (
        b"",
        b"[]",
        b'{"commands":{}}',
        b'{"session":1}',
        b'{"session":"\xff"}',
        b'{"commands":[' + b"[" * 60_000,
    ):
        assert error_of(decode_post, bad, max_bytes=MAX_BYTES, commands_max=2).row.name == "bad_request"


def test_push_as_event() -> None:
    assert push_event(Push(heartbeat=HeartbeatPush(5), seq=2)) == b'data: {"heartbeat":{"at_ms":5},"seq":2}\n\n'


@pytest.mark.parametrize("name", TABLE)
def test_every_error_on_the_wire(name: str) -> None:
    row = TABLE[name]
    error = HybridError(name, "Do this.", retry_after_s=2.5)
    wired = wire_error(error)
    assert (wired.number, wired.name, wired.detail, wired.retry_after_s) == (row.number, name, "Do this.", 2.5)
    body = json.loads(problem(error))
    assert (body["number"], body["name"], body["status"]) == (row.number, name, row.http_status)
    assert (body["detail"], body["retry_after_s"]) == ("Do this.", 2.5)
    assert body["title"]


def test_error_without_detail() -> None:
    error = ChannelError()
    assert msgspec.json.encode(wire_error(error)) == b'{"number":3403,"name":"forbidden"}'
    assert json.loads(problem(error)) == {
        "title": "Forbidden",
        "status": 403,
        "detail": error.row.meaning,
        "number": 3403,
        "name": "forbidden",
    }


def test_detail_is_cut() -> None:
    error = ProtocolError(None, "x" * 10_000)
    assert len(wire_error(error).detail) == 200
    assert len(json.loads(problem(error))["detail"]) == 200


def test_error_reply() -> None:
    push = error_reply(BrokerError(None, "Try again."), id=3, n=2)
    assert json.loads(JSON.encode_push(push)) == {
        "reply": {"id": 3, "n": 2, "error": {"number": 3503, "name": "broker_unavailable", "detail": "Try again."}}
    }
