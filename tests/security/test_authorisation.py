"""Every gate asks with the rights of now, denies by default and tells nobody what exists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from hybrid.settings import Namespace
from tests.support.bytewise import EVENTS, JSON, Connection, call, connected, event_stream, request, text, websocket
from tests.support.server import RunningServer, running_server, settings_for

NAMESPACES = {
    "room": Namespace("room", presence=True),
    "staff": Namespace("staff", subscribe="token", publish="token", presence=True),
    "open": Namespace(
        "open", subscribe="anyone", publish="anyone", allow_anonymous_publish=True, presence=True, history_size=10
    ),
}
"""No `default`: a name outside of these belongs nowhere."""

Headers = dict[str, str]
Gate = Callable[[RunningServer, str, Headers], Awaitable[str]]


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(namespaces=NAMESPACES)) as running:
        yield running


def path(kind: str, channel: str) -> str:
    return f"/v1/{kind}/{quote(channel, safe='')}"


def http(method: str, kind: str, body: bytes = b"", **extra: str) -> Gate:
    async def ask(server: RunningServer, channel: str, headers: Headers) -> str:
        named = {**extra, **(JSON if body else {}), **headers}
        answer = await call(server, method, path(kind, channel), named, body)
        return "ok" if answer.status == 200 else answer.name

    return ask


async def ask_event_stream(server: RunningServer, channel: str, headers: Headers) -> str:
    async with connected(server) as connection:
        connection.send(request("GET", path("channels", channel), {**EVENTS, **headers}))
        head = await connection.head()
        if head.status == 200:
            return "ok"
        length = int(head.headers["content-length"])
        name: str = json.loads(await connection.reader.readexactly(length))["name"]
        return name


async def ask_websocket(server: RunningServer, channel: str, headers: Headers) -> str:
    if ":" in channel and channel.partition(":")[0] in NAMESPACES:
        await server.engine.publish(channel, 1)
    async with websocket(server, path("channels", channel) + "?history=1", headers) as socket:
        if not headers and not channel.startswith("open:"):
            socket.send(text({"method": "heartbeat"}))
        opcode, payload = await socket.frame()
        return "ok" if opcode == 1 else {3401: "unauthorized", 3403: "forbidden"}[int.from_bytes(payload[:2], "big")]


async def ask_batch(server: RunningServer, channel: str, headers: Headers) -> str:
    body = json.dumps({"publications": [{"channel": channel, "data": 1}]}).encode()
    answer = await call(server, "POST", "/v1/publish", headers, body)
    assert answer.status == 200
    result = answer.json()["results"][0]
    return result["error"]["name"] if "error" in result else "ok"


async def ask_ticket(server: RunningServer, channel: str, headers: Headers) -> str:
    body = json.dumps({"purpose": "channels", "channels": [channel]}).encode()
    answer = await call(server, "POST", "/v1/ticket", headers, body)
    return "ok" if answer.status == 201 else answer.name


def posted(method: str, **fields: Any) -> Gate:
    async def ask(server: RunningServer, channel: str, headers: Headers) -> str:
        command = {"method": method, "id": 1, "channel": channel, **fields}
        answer = await call(server, "POST", "/v1/command", headers, json.dumps({"commands": [command]}).encode())
        reply = answer.json()["replies"][0]
        return reply["error"]["name"] if "error" in reply else "ok"

    return ask


def sent(method: str, **fields: Any) -> Gate:
    async def ask(server: RunningServer, channel: str, headers: Headers) -> str:
        async with websocket(server, "/v1/stream", headers) as socket:
            await attach(socket)
            socket.send(text({"method": method, "id": 1, "channel": channel, **fields}))
            while "reply" not in (push := await socket.push()):
                pass
            reply = push["reply"]
            return reply["error"]["name"] if "error" in reply else "ok"

    return ask


async def told(socket: Connection) -> dict[str, Any]:
    """The next push that is not about who comes and goes."""
    while (push := await socket.push()).keys() & {"join", "leave"}:
        pass
    made: dict[str, Any] = push
    return made


async def attach(socket: Connection, *channels: str, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the server answers: who one is now, and for each channel its number of error or 0."""
    subscriptions = [{"channel": channel} for channel in channels]
    socket.send(text({"method": "attach", "attempt": 1, "confirm": True, "subscriptions": subscriptions, **fields}))
    attached = (await socket.push())["attached"]
    subscribed = (await socket.push())["subscribed"]
    return attached, {item["channel"]: item.get("error", 0) for item in subscribed["channels"]}


async def ask_attach(server: RunningServer, channel: str, headers: Headers) -> str:
    async with websocket(server, "/v1/stream", headers) as socket:
        _, answers = await attach(socket, channel)
        return {0: "ok", 3401: "unauthorized", 3403: "forbidden"}[answers[channel]]


async def poll(server: RunningServer, command: dict[str, Any], headers: Headers) -> list[dict[str, Any]]:
    answer = await call(server, "POST", "/v1/stream", headers, json.dumps(command).encode())
    assert answer.status == 200, answer
    pushes: list[dict[str, Any]] = answer.json()["pushes"]
    return pushes


async def ask_first_poll(server: RunningServer, channel: str, headers: Headers) -> str:
    command = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": channel}]}
    pushes = await poll(server, command, headers)
    answers = pushes[1]["subscribed"]["channels"]
    return {0: "ok", 3401: "unauthorized", 3403: "forbidden"}[answers[0].get("error", 0)]


async def ask_polled_subscribe(server: RunningServer, channel: str, headers: Headers) -> str:
    pushes = await poll(server, {"method": "attach", "attempt": 1, "confirm": True}, headers)
    command = {
        "method": "subscribe",
        "id": 1,
        "channel": channel,
        "sealed": pushes[1]["subscribed"]["sealed"],
    }
    body = {"session": pushes[0]["attached"]["session"], "commands": [command]}
    answer = await call(server, "POST", "/v1/command", headers, json.dumps(body).encode())
    reply = answer.json()["replies"][0]
    return reply["error"]["name"] if "error" in reply else "ok"


READING: dict[str, Gate] = {
    "poll": http("GET", "channels"),
    "event stream": ask_event_stream,
    "websocket": ask_websocket,
    "history": http("GET", "history"),
    "presence": http("GET", "presence"),
    "posted history": posted("history"),
    "posted presence": posted("presence"),
    "sent history": sent("history"),
    "sent presence": sent("presence"),
    "sent subscribe": sent("subscribe"),
    "sent numbered subscribe": sent("subscribe", n=1),
    "attach": ask_attach,
    "first poll": ask_first_poll,
    "polled subscribe": ask_polled_subscribe,
}
WRITING: dict[str, Gate] = {
    "publish": http("POST", "channels", b"1"),
    "batch": ask_batch,
    "posted publish": posted("publish", data=1),
    "sent publish": sent("publish", data=1),
}
GATES = {**READING, **WRITING}


@pytest.mark.parametrize("gate", GATES)
async def test_each_gate_opens_for_its_own_scope_only(server: RunningServer, gate: str) -> None:
    ask = GATES[gate]
    mine, other = ("subscribe", "publish") if gate in READING else ("publish", "subscribe")
    for scope, expected in (
        (f"hybrid:{mine}:room:1", "ok"),
        (f"hybrid:{mine}:room:*", "ok"),
        (f"hybrid:{mine}:*", "ok"),
        (f"hybrid:{other}:room:1", "forbidden"),
        (f"hybrid:{other}:*", "forbidden"),
        (f"hybrid:{mine}:room:", "forbidden"),
        (f"hybrid:{mine}:room:11", "forbidden"),
        (f"hybrid:{mine}:Room:1", "forbidden"),
        ("openid profile", "forbidden"),
        ("", "forbidden"),
    ):
        assert await ask(server, "room:1", server.bearer(scope=scope)) == expected, scope


@pytest.mark.parametrize("gate", GATES)
async def test_each_gate_follows_the_rule_of_the_namespace(server: RunningServer, gate: str) -> None:
    ask = GATES[gate]
    nobody, poor, rich = {}, server.bearer(scope=""), server.bearer()
    assert await ask(server, "room:1", nobody) == "unauthorized"
    assert await ask(server, "staff:1", nobody) == "unauthorized"
    assert await ask(server, "open:1", nobody) == "ok"
    for channel, expected in (("room:1", "forbidden"), ("staff:1", "ok"), ("open:1", "ok")):
        assert await ask(server, channel, poor) == expected
    for channel in ("nowhere:1", "nowhere", "room", "rooms:1", ":1", "Room:1"):
        assert await ask(server, channel, rich) == "forbidden"
        assert await ask(server, channel, nobody) == "unauthorized"


async def test_a_ticket_is_for_somebody_and_for_what_they_may_read(server: RunningServer) -> None:
    assert await ask_ticket(server, "open:1", {}) == "unauthorized"
    assert await ask_ticket(server, "staff:1", server.bearer(scope="")) == "ok"
    assert await ask_ticket(server, "room:1", server.bearer(scope="hybrid:publish:*")) == "forbidden"
    assert await ask_ticket(server, "room:1", server.bearer(scope="hybrid:subscribe:room:1")) == "ok"
    assert await ask_ticket(server, "nowhere", server.bearer()) == "forbidden"


async def test_without_any_open_namespace_nobody_comes_in_anonymously() -> None:
    async with running_server(settings_for(namespaces={"room": Namespace("room")})) as server:
        for target in ("/v1/stream", "/v1/command", "/v1/publish", "/v1/ticket"):
            answer = await call(server, "POST", target, JSON, b"{}")
            assert (answer.status, answer.name) == (401, "unauthorized")


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["json", "events"])
@pytest.mark.parametrize(("method", "kind"), [("GET", "channels"), ("GET", "history"), ("POST", "channels")])
async def test_what_exists_and_what_does_not_are_refused_with_the_same_bytes(
    server: RunningServer, method: str, kind: str, headers: Headers
) -> None:
    await server.engine.publish("room:secret", 1)
    for credential in ({}, server.bearer(scope="hybrid:subscribe:other hybrid:publish:other")):
        answers = []
        for channel in ("room:secret", "room:nothing", "nowhere:nothing"):
            async with connected(server) as connection:
                named = {**headers, **credential, "Connection": "close"}
                connection.send(request(method, path(kind, channel), named))
                raw = await connection.ended()
                assert raw.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))
                answers.append([line for line in raw.split(b"\r\n") if not line.startswith(b"date:")])
        assert answers[0] == answers[1] == answers[2]


async def test_a_session_of_somebody_else_is_none(server: RunningServer) -> None:
    alice, bob = server.bearer("alice"), server.bearer("bob")
    async with websocket(server, "/v1/stream", alice) as hers:
        attached, _ = await attach(hers, "room:1")
        session = attached["session"]
        async with websocket(server, "/v1/stream", bob) as his:
            other, _ = await attach(his, session=session, attempt=9)
            assert other["session"] != session
            assert "is_resumed" not in other
        for method, fields in (
            ("confirm", {"attempt": 1}),
            ("subscribe", {"channel": "room:2", "n": 1}),
            ("unsubscribe", {"channel": "room:1", "n": 1}),
            ("refresh", {"n": 1}),
            ("heartbeat", {}),
        ):
            body = {"session": session, "commands": [{"method": method, "id": 1, **fields}]}
            answer = await call(server, "POST", "/v1/command", bob, json.dumps(body).encode())
            assert answer.json()["replies"][0]["error"]["name"] == "session_unknown"
            body["session"] = "A" * 22
            unknown = await call(server, "POST", "/v1/command", bob, json.dumps(body).encode())
            assert unknown.body == answer.body
        pushes = await poll(server, {"method": "poll", "session": session, "attempt": 1}, bob)
        assert pushes[0]["attached"]["session"] != session
        await server.engine.publish("room:1", "still hers")
        assert (await told(hers))["publication"]["data"] == "still hers"


async def test_a_sealed_list_is_for_one_principal_session_and_token(server: RunningServer) -> None:
    """A seal that does not fit is worth nothing: the channels in it are authorised again, with the poller's rights."""
    rich = server.bearer("alice")
    pushes = await poll(
        server,
        {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "room:1"}]},
        rich,
    )
    session, sealed = pushes[0]["attached"]["session"], pushes[1]["subscribed"]["sealed"]
    positions = [{"channel": "room:1", "position": {"offset": 0}}]
    await server.engine.publish("room:1", "secret")

    def command(**changes: Any) -> dict[str, Any]:
        return {"method": "poll", "session": session, "attempt": 1, "sealed": sealed, "positions": positions,
                "wait_s": 0, **changes}  # fmt: skip

    good = await poll(server, command(), rich)
    assert [push["publication"]["data"] for push in good] == ["secret"]
    for headers in (
        server.bearer("alice", scope="hybrid:subscribe:room:2"),
        server.bearer("alice", scope="hybrid:subscribe:room:2", lifetime_s=60),
        server.bearer("alice", scope="hybrid:subscribe:room:2", lifetime_s=9_000),
        server.bearer("bob", scope="hybrid:subscribe:room:2"),
    ):
        for changes in ({}, {"session": "A" * 22}, {"attempt": 2}):
            answer = await poll(server, command(**changes), headers)
            assert not [push for push in answer if "publication" in push]
            if "disconnect" in answer[0]:  # an attempt below that of another poll
                continue
            subscribed = next(push["subscribed"] for push in answer if "subscribed" in push)
            assert [item.get("error") for item in subscribed["channels"]] in ([3403], [])
            sneaked = await poll(server, command(**changes, sealed=subscribed["sealed"]), headers)
            assert not [push for push in sneaked if "publication" in push]
    for forged in (sealed[:-1], sealed + "A", "A" * len(sealed), sealed.swapcase(), "=", "", "é"):
        answer = await poll(server, command(sealed=forged), server.bearer("alice", scope=""))
        assert not [push for push in answer if "publication" in push]
        body = {"session": session, "commands": [{"method": "subscribe", "id": 1, "channel": "staff:1",
                                                  "sealed": forged}]}  # fmt: skip
        posted_answer = await call(server, "POST", "/v1/command", rich, json.dumps(body).encode())
        assert posted_answer.json()["replies"][0]["error"]["name"] == ("session_unknown" if forged else "bad_request")


@pytest.mark.parametrize("lifetime_s", [60, 9_000], ids=["shorter", "longer"])
async def test_after_a_refresh_the_new_tokens_rights_hold_and_no_others(
    server: RunningServer, lifetime_s: float
) -> None:
    lesser = server.token(scope="hybrid:subscribe:room:2 hybrid:publish:room:2", lifetime_s=lifetime_s)
    async with websocket(server, "/v1/stream", server.bearer()) as socket:
        attached, _ = await attach(socket, "room:1", "room:2")
        socket.send(text({"method": "refresh", "id": 1, "n": 1, "token": lesser}))
        unsubscribed, reply = {}, {}
        while not (unsubscribed and reply):
            push = await told(socket)
            unsubscribed = push.get("unsubscribed", unsubscribed)
            reply = push.get("reply", reply)
        assert unsubscribed == {"channel": "room:1", "error": 3403}
        assert "error" not in reply
        for number, (command, name) in enumerate(
            [
                ({"method": "subscribe", "channel": "room:1", "n": 2}, "forbidden"),
                ({"method": "subscribe", "channel": "room:1"}, "forbidden"),
                ({"method": "history", "channel": "room:1"}, "forbidden"),
                ({"method": "presence", "channel": "room:1"}, "forbidden"),
                ({"method": "publish", "channel": "room:1", "data": 1}, "forbidden"),
            ],
            start=2,
        ):
            socket.send(text({**command, "id": number}))
            assert (await told(socket))["reply"]["error"]["name"] == name
        await server.engine.publish("room:1", "not for them")
        await server.engine.publish("room:2", "for them")
        assert (await told(socket))["publication"]["data"] == "for them"
        # What recovers later, in the same session, does so with what is shown then.
        async with websocket(server, "/v1/stream", {"Authorization": f"Bearer {lesser}"}) as again:
            resumed, answers = await attach(again, "room:1", "room:2", session=attached["session"], attempt=2)
            assert resumed["is_resumed"]
            assert answers == {"room:1": 3403, "room:2": 0}


async def test_a_posted_refresh_takes_rights_from_an_event_stream(server: RunningServer) -> None:
    command = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "room:1"}]}
    body = json.dumps(command).encode()
    async with event_stream(server, "/v1/stream", server.bearer(), method="POST", body=body) as stream:
        session = json.loads((await stream.event())["data"])["attached"]["session"]
        assert "subscribed" in json.loads((await stream.event())["data"])
        lesser = server.bearer(scope="hybrid:subscribe:room:2")
        post = {"session": session, "commands": [{"method": "refresh", "id": 1, "n": 1}]}
        answer = await call(server, "POST", "/v1/command", lesser, json.dumps(post).encode())
        assert "error" not in answer.json()["replies"][0]
        while "join" in (pushed := json.loads((await stream.event())["data"])):
            pass
        assert pushed == {"unsubscribed": {"channel": "room:1", "error": 3403}, "seq": 1}


async def test_a_refresh_for_somebody_else_is_the_end(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream", server.bearer("alice")) as socket:
        await attach(socket, "room:1")
        socket.send(text({"method": "refresh", "id": 1, "n": 1, "token": server.token("bob")}))
        assert (await socket.close_code())[0] == 4505
    async with websocket(server, "/v1/stream", server.bearer("alice")) as socket:
        await attach(socket, "room:1")
        socket.send(text({"method": "refresh", "id": 1, "n": 1, "token": "nonsense"}))
        assert (await told(socket))["reply"]["error"]["name"] == "token_refused"
        await server.engine.publish("room:1", "the old token lives on")
        assert "publication" in await told(socket)


async def test_anonymous_sessions_leave_the_doorway(server: RunningServer) -> None:
    async with websocket(server, "/v1/stream") as socket:
        assert server.engine.door.count == 1
        await attach(socket, "open:1")
        assert server.engine.door.count == 0
        socket.send(text({"method": "publish", "id": 1, "channel": "open:1", "data": "x" * 20_000}))
        while "reply" not in (push := await told(socket)):
            pass
        assert push["reply"]["position"]["offset"] == 1
