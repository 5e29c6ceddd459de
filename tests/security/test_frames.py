"""What a hostile WebSocket client may send, and what it hears; nobody else hears anything of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from hybrid.limits import Limits
from hybrid.web import launcher
from tests.support.bytewise import (
    WEBSOCKET,
    Bystander,
    Connection,
    bystander,
    call,
    connected,
    frame,
    request,
    text,
    websocket,
)
from tests.support.server import RunningServer, running_server, settings_for

LIMITS = Limits(command_max_bytes=70_000, fragments_max=8)
ATTACH = {"method": "attach", "attempt": 1, "confirm": True}


@pytest.fixture(params=[True, False], ids=["hand-off", "asgi"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(handoff=request.param, limits=LIMITS)) as running:
        yield running


HANDED_OFF = pytest.mark.parametrize("server", [True], indirect=True, ids=["hand-off"])
"""What a server behind plain ASGI decides itself, each in its own way, is looked at where we decide."""


@pytest.fixture(autouse=True)
async def other(server: RunningServer) -> AsyncIterator[Bystander]:
    async with bystander(server) as made:
        yield made
        await made.still_hears()


async def attached(socket: Connection) -> dict[str, Any]:
    socket.send(text(ATTACH))
    push: dict[str, Any] = (await socket.push())["attached"]
    assert "subscribed" in await socket.push()
    return push


async def disconnected(socket: Connection) -> int:
    """The number that the last push and the close frame both tell."""
    while "disconnect" not in (push := await socket.push()):
        pass
    code, reason = await socket.close_code()
    assert code == push["disconnect"]["code"]
    assert len(reason.encode()) <= 123
    number: int = code
    return number


BEFORE_AUTH = {
    "attach": text(ATTACH),
    "a heartbeat": text({"method": "heartbeat"}),
    "a publish": text({"method": "publish", "id": 1, "channel": "news", "data": 1}),
    "a publish in front of the token": frame(b'{"method":"publish","channel":"a","data":1}\n{"method":"auth"}'),
}
NOT_A_COMMAND = {
    "empty": frame(b""),
    "no JSON": frame(b"hello"),
    "no object": frame(b"[]"),
    "no method": frame(b"{}"),
    "deep": frame(b"[" * 4_000 + b"]" * 4_000),
    "a lone surrogate": frame(b'{"method":"auth","token":"\\ud800"}'),
    "auth without a token": text({"method": "auth"}),
    "auth with an empty token": text({"method": "auth", "token": ""}),
    "auth with a number": text({"method": "auth", "token": 7}),
    "an unknown method": text({"method": "x", "id": 1}),
}


@pytest.mark.parametrize("sent", BEFORE_AUTH.values(), ids=BEFORE_AUTH.keys())
async def test_nothing_is_done_before_the_token(server: RunningServer, sent: bytes) -> None:
    async with websocket(server, "/v1/stream") as socket:
        socket.send(sent)
        assert await disconnected(socket) == 3401
    history = await call(server, "GET", "/v1/history/news", server.bearer())
    assert history.json()["publications"] == []


@pytest.mark.parametrize("sent", NOT_A_COMMAND.values(), ids=NOT_A_COMMAND.keys())
async def test_before_the_token_every_fault_is_the_end(server: RunningServer, sent: bytes) -> None:
    async with websocket(server, "/v1/stream") as socket:
        socket.send(sent)
        assert await disconnected(socket) == 4500


@pytest.mark.parametrize("sent", [frame(b"x" * 9_217), frame(b"x" * 9_000, is_final=False) + frame(b"x" * 300, 0)])
async def test_the_frame_with_the_token_is_bounded_before_it_is_read(server: RunningServer, sent: bytes) -> None:
    async with websocket(server, "/v1/stream") as socket:
        socket.send(sent)
        assert (await socket.close_code())[0] == 1009


@pytest.mark.parametrize("token", ["x", "a.b.c", "x" * 8_193, "\u00e9", "eyJ.eyJ.x", "\u0000"])
async def test_a_bad_token_is_told_and_not_quoted(server: RunningServer, token: str) -> None:
    async with websocket(server, "/v1/stream") as socket:
        socket.send(text({"method": "auth", "token": token}))
        disconnect = (await socket.push())["disconnect"]
        assert disconnect == {"code": 4501, "reason": "token_refused", "reconnect": False}
        assert await socket.close_code() == (4501, "token_refused")


@pytest.mark.parametrize("sent", NOT_A_COMMAND.values(), ids=NOT_A_COMMAND.keys())
async def test_afterwards_a_fault_without_an_id_is_the_end_and_with_one_an_answer(
    server: RunningServer, sent: bytes
) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        socket.send(sent)
        if b'"x"' not in frame_payload(sent):
            assert await disconnected(socket) == 4500
        else:
            assert (await socket.push())["reply"]["error"]["name"] == "method_unknown"


def frame_payload(sent: bytes) -> bytes:
    """What a short frame carries, unmasked."""
    mask, masked = sent[2:6], sent[6:]
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked)) if len(sent) < 126 else b""


async def test_binary_where_text_belongs_and_the_other_way_round(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        socket.send(frame(json.dumps(ATTACH).encode(), 2))
        assert await disconnected(socket) == 4500
    headers = {**server.bearer(), "Sec-WebSocket-Protocol": "hybrid.v1.msgpack"}
    async with websocket(server, "/v1/stream", headers) as socket:
        socket.send(text(ATTACH))
        opcode, payload = await socket.frame()
        assert (opcode, msgspec.msgpack.decode(payload)["disconnect"]["code"]) == (2, 4500)
        assert (await socket.close_code())[0] == 4500


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x81", b"\x91" * 5_000, b"\xdf\xff\xff\xff\xff", b"\x90", b"\xc0"])
async def test_what_is_no_messagepack(server: RunningServer, payload: bytes) -> None:
    headers = {**server.bearer(), "Sec-WebSocket-Protocol": "hybrid.v1.msgpack"}
    async with websocket(server, "/v1/stream", headers) as socket:
        socket.send(frame(payload, 2))
        assert (await socket.close_code())[0] == 4500


async def test_a_subprotocol_that_we_do_not_speak_is_not_chosen(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", {**server.bearer(), "Sec-WebSocket-Protocol": "mqtt, wamp"}) as socket:
        await attached(socket)


async def test_a_second_attach_and_a_foreign_confirm_end_nothing_of_others(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        for command in (
            {**ATTACH, "attempt": 2, "id": 1},
            {"method": "confirm", "attempt": 2, "id": 2},
            {"method": "auth", "token": server.token(), "id": 3},
            {"method": "poll", "session": "s", "attempt": 1, "id": 4},
        ):
            socket.send(text(command))
            reply = (await socket.push())["reply"]
            assert (reply["id"], reply["error"]["name"]) == (command["id"], "bad_request")
        socket.send(text({**ATTACH, "attempt": 2}))
        assert await disconnected(socket) == 4500


async def test_commands_before_the_attach_need_none_or_are_refused(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        socket.send(text({"method": "subscribe", "id": 1, "channel": "news"}))
        assert (await socket.push())["reply"]["error"]["name"] == "session_unknown"
        socket.send(text({"method": "confirm", "id": 2, "attempt": 0}))
        assert (await socket.push())["reply"]["error"]["name"] == "bad_request"
        socket.send(text({"method": "publish", "id": 3, "channel": "news", "data": 1}))
        assert (await socket.push())["reply"]["position"]["offset"] == 1


async def test_a_command_over_its_bound(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        fitting = {"method": "publish", "id": 1, "channel": "news", "data": "x" * 65_534}
        socket.send(text(fitting))
        assert (await socket.push())["reply"]["position"]["offset"] == 1
        socket.send(text({**fitting, "data": "x" * 65_535}))
        assert (await socket.push())["reply"]["error"]["name"] == "too_large"
        socket.send(frame(b" " * (LIMITS.command_max_bytes + 1)))
        assert (await socket.close_code())[0] == 1009


async def test_more_commands_in_a_frame_than_fit(server: RunningServer) -> None:
    line = json.dumps({"method": "heartbeat"}).encode() + b"\n"
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        socket.send(frame(line * LIMITS.commands_per_post_max))
        socket.send(text({"method": "history", "id": 9, "channel": "news"}))
        assert (await socket.push())["reply"]["id"] == 9
        socket.send(frame(line * (LIMITS.commands_per_post_max + 1)))
        assert await disconnected(socket) == 4513


async def test_a_flood_of_commands_is_read_no_faster_than_it_is_carried_out(server: RunningServer) -> None:
    count = LIMITS.inbox_max * 20
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        await attached(socket)
        for number in range(1, count + 1):
            socket.send(text({"method": "history", "id": number, "channel": "news"}))
        assert [(await socket.push())["reply"]["id"] for _ in range(count)] == list(range(1, count + 1))


BROKEN_FRAMES = {
    "unmasked": (b"\x81\x02{}", 1002),
    "reserved bits": (b"\xc1" + frame(b"{}")[1:], 1002),
    "an unknown opcode": (frame(b"{}", 3), 1002),
    "a continuation of nothing": (frame(b"{}", 0), 1002),
    "a message inside a message": (frame(b"{", is_final=False) + frame(b"{}"), 1002),
    "a fragmented ping": (frame(b"", 9, is_final=False), 1002),
    "a long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
    "text that is no UTF-8": (frame(b"\xff"), 1007),
    "text cut in a character": (frame("é".encode()[:1]), 1007),
    "a length of 2^63": (b"\x81\xff\x80" + b"\0" * 11, 1009),
    "a length that is announced only": (b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0", 1009),
    "a close of one byte": (frame(b"x", 8), 1002),
    "a close with a forbidden code": (frame(b"\x03\xed", 8), 1002),
}


@HANDED_OFF
@pytest.mark.parametrize("case", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
@pytest.mark.parametrize("target", ["/v1/stream", "/v1/channels/news"])
async def test_frames_that_break_rfc_6455(server: RunningServer, target: str, case: tuple[bytes, int]) -> None:
    sent, code = case
    async with websocket(server, target, server.bearer()) as socket:
        socket.send(sent)
        assert (await socket.close_code())[0] == code


@HANDED_OFF
async def test_fragments_over_their_bound(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        socket.send(frame(b" ", is_final=False) + frame(b" ", 0, is_final=False) * LIMITS.fragments_max)
        assert (await socket.close_code())[0] == 1009


@HANDED_OFF
async def test_a_flood_of_pings_is_the_end(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        socket.send(frame(b"", 9) * (LIMITS.control_frames_per_s_max * 2 + 1))
        assert (await socket.close_code())[0] == 1008


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": ""},
        {"Upgrade": "websocket2"},
    ],
    ids=str,
)
async def test_handshakes_that_are_wrong_end_without_a_socket(server: RunningServer, headers: dict[str, str]) -> None:
    async with connected(server) as connection:
        connection.send(request("GET", "/v1/stream", {**WEBSOCKET, **headers, **server.bearer()}))
        head = await connection.head()
        assert 400 <= head.status < 500


async def test_http_2_without_a_request_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_KEEP_ALIVE_S", 0.2)
    async with running_server(settings_for()) as server, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        assert await reader.read(9), "it is HTTP/2 that is spoken: the server's settings come"
        await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_a_stranger_with_nothing_to_say_is_sent_away() -> None:
    limits = Limits(auth_timeout_s=0.2)
    async with running_server(settings_for(limits=limits)) as server:
        async with websocket(server, "/v1/stream") as socket:
            assert await disconnected(socket) == 4408
        async with websocket(server, "/v1/channels/news") as socket:
            assert await socket.close_code() == (4408, "auth_timeout")
        async with websocket(server, "/v1/stream", server.bearer()) as socket:
            assert await disconnected(socket) == 4411
