"""Whatever is sent to /v1, the answer is one clear error, and nobody else notices."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hybrid.limits import CURSOR_MAX_BYTES, KEY_MAX_BYTES, Limits
from tests.support.bytewise import EVENTS, JSON, Answer, Bystander, bystander, call, connected, request
from tests.support.server import RunningServer, running_server, settings_for

POSTS = ["/v1/channels/news", "/v1/publish", "/v1/ticket", "/v1/command", "/v1/stream"]


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for()) as running:
        yield running


@pytest.fixture
async def other(server: RunningServer) -> AsyncIterator[Bystander]:
    """Somebody else, who has to hear the next publication after every test."""
    async with bystander(server) as made:
        yield made
        await made.still_hears()


pytestmark = pytest.mark.usefixtures("other")


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


NO_JSON = {
    "empty": b"",
    "no JSON": b"hello",
    "cut": b'{"a": ',
    "two values": b"{} {}",
    "a trailing comma": b"[1,]",
    "NaN": b"NaN",
    "a comment": b"{/**/}",
    "invalid UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a BOM": b"\xef\xbb\xbf{}",
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a raw NUL": b'"\x00"',
    "a raw line break": b'"a\nb"',
    "33 levels": deep(33),
    "10000 levels": deep(10_000),
    "half of 10000 levels": b"[" * 10_000,
    "a number of 65 digits": b"1" * 65,
    "a number of 60000 digits": b"1" * 60_000,
    "a number beyond a double": b"1e999",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
async def test_what_is_no_json(server: RunningServer, body: bytes) -> None:
    for path, accept in itertools.product(POSTS, ({}, EVENTS)):
        answer = await call(server, "POST", path, {**server.bearer(), **JSON, **accept}, body)
        assert (answer.status, answer.name) == (400, "bad_request")


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b'"text"', b"true", b"[" + b"{}," * 999 + b"{}]"])
async def test_json_of_another_shape(server: RunningServer, body: bytes) -> None:
    for path in POSTS[1:]:
        answer = await call(server, "POST", path, {**server.bearer(), **JSON}, body)
        assert (answer.status, answer.name) == (400, "bad_request")


WRONG: list[tuple[str, Any]] = [
    ("/v1/publish", {}),
    ("/v1/publish", {"publications": {}}),
    ("/v1/publish", {"publications": None}),
    ("/v1/ticket", {}),
    ("/v1/ticket", {"purpose": 1}),
    ("/v1/ticket", {"purpose": "other"}),
    ("/v1/ticket", {"purpose": "channels"}),
    ("/v1/ticket", {"purpose": "channels", "channels": []}),
    ("/v1/ticket", {"purpose": "channels", "channels": "news"}),
    ("/v1/ticket", {"purpose": "channels", "channels": [1]}),
    ("/v1/ticket", {"purpose": "channels", "channels": ["a*"]}),
    ("/v1/ticket", {"purpose": "channels", "channels": ["a"] * 17}),
    ("/v1/ticket", {"purpose": "session"}),
    ("/v1/ticket", {"purpose": "session", "attach": None}),
    ("/v1/ticket", {"purpose": "session", "attach": {"method": "publish", "channel": "a", "data": 1}}),
    ("/v1/ticket", {"purpose": "session", "attach": {"method": "attach", "attempt": -1}}),
    ("/v1/command", {"commands": {}}),
    ("/v1/command", {"session": 7, "commands": []}),
    ("/v1/command", {"session": "x" * 65, "commands": []}),
    ("/v1/command", {"last_seq": -1, "commands": []}),
    ("/v1/command", {"last_seq": 2**53, "commands": []}),
    ("/v1/stream", {}),
    ("/v1/stream", {"method": "nothing"}),
    ("/v1/stream", {"method": 7}),
    ("/v1/stream", {"method": "publish", "channel": "a", "data": 1}),
    ("/v1/stream", {"method": "auth", "token": "x"}),
    ("/v1/stream", {"method": "attach", "attempt": "1"}),
    ("/v1/stream", {"method": "attach", "attempt": 1.5}),
    ("/v1/stream", {"method": "attach", "attempt": 10**400}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "nonce": "n" * 65}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "client": "me"}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": {"channel": "a"}}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": ""}]}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "a\u0000"}]}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "e\u0301"}]}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "a"}, {"channel": "a"}]}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "a", "history": 1001}]}),
    ("/v1/stream", {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "a", "position": "0"}]}),
    (
        "/v1/stream",
        {"method": "attach", "attempt": 1, "subscriptions": [{"channel": "a", "position": {"offset": 1}}]},
    ),
    ("/v1/stream", {"method": "poll", "session": "s"}),
    ("/v1/stream", {"method": "poll", "session": "s", "attempt": 1, "wait_s": -1}),
    ("/v1/stream", {"method": "poll", "session": "s", "attempt": 1, "wait_s": 1e6}),
    (
        "/v1/stream",
        {
            "method": "poll",
            "session": "s",
            "attempt": 1,
            "positions": [{"channel": "a", "position": {"offset": 0}}] * 2,
        },
    ),
]


async def test_fields_that_are_wrong(server: RunningServer) -> None:
    for path, body in WRONG:
        answer = await call(server, "POST", path, {**server.bearer(), **JSON}, json.dumps(body).encode())
        assert answer.status == 400, body
        assert answer.name in ("bad_request", "method_unknown")


COMMANDS: list[tuple[Any, str]] = [
    (None, "bad_request"),
    ([], "bad_request"),
    ({}, "bad_request"),
    ({"method": "nothing", "id": 1}, "method_unknown"),
    ({"method": "publish", "id": 1}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a"}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": 1, "key": ""}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": 1, "key": "ü" * 65}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": 1, "type": "a b"}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": 1, "type": "hybrid.x"}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": 1, "binary": True}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": {"base64": "?"}, "binary": True}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": ".", "data": 1}, "bad_request"),
    ({"method": "publish", "id": 1, "channel": "a", "data": "x" * 65_536}, "too_large"),
    ({"method": "history", "id": 1, "channel": "a", "limit": 0}, "bad_request"),
    ({"method": "history", "id": 1, "channel": "a", "limit": 1001}, "bad_request"),
    ({"method": "history", "id": 1, "channel": "a", "after": {"offset": 0}, "reverse": True}, "bad_request"),
    ({"method": "presence", "id": 1, "channel": "a"}, "not_offered"),
    ({"method": "subscribe", "id": 1, "channel": "a", "n": 1}, "session_unknown"),
    ({"method": "unsubscribe", "id": 1, "channel": "a", "n": 1}, "session_unknown"),
    ({"method": "refresh", "id": 1, "n": 1}, "session_unknown"),
    ({"method": "confirm", "id": 1, "attempt": 1}, "session_unknown"),
    ({"method": "attach", "id": 1, "attempt": 1}, "session_unknown"),
    ({"method": "subscribe", "id": 1, "channel": "a", "sealed": "nonsense"}, "session_unknown"),
    ({"method": "unsubscribe", "id": 1, "channel": "a", "sealed": "\u00e9"}, "session_unknown"),
]


async def test_commands_that_are_wrong_are_answered_one_by_one(server: RunningServer) -> None:
    for session in ("", "AAAAAAAAAAAAAAAAAAAAAA"):
        body = {"session": session, "commands": [command for command, _ in COMMANDS]}
        answer = await call(server, "POST", "/v1/command", server.bearer(), json.dumps(body).encode())
        replies = answer.json()["replies"]
        assert [reply["error"]["name"] for reply in replies] == [name for _, name in COMMANDS]
        assert all(reply["error"].get("detail", ".").endswith(".") for reply in replies)


QUERIES = [
    *("after=x", "after=k-1", "after=k-1-0000000G", "after=k-0-00000000", f"after=k-{2**53}-00000000"),
    *("after=-1", "after=0&after=0", "after=%00", "after=%ff", "after=" + "k" * 3_000),
    *("wait=-1", "wait=x", "wait=nan", "wait=inf", "wait=1e3", "wait=1_0", "wait=%D9%A1", "wait=", "wait=1&wait=1"),
    *("history=-1", "history=x", "history=1e9", "history=" + "9" * 400),
    "&".join(f"x{number}=" for number in range(65)),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:40])
async def test_queries_that_are_wrong(server: RunningServer, query: str) -> None:
    for accept in ({}, EVENTS):
        if accept and query.startswith("wait"):
            continue
        answer = await call(server, "GET", f"/v1/channels/news?{query}", {**accept, **server.bearer()})
        assert answer.status in (400, 413), query
        assert answer.name in ("bad_request", "too_large")
    if query.startswith("after=") and "k" * 99 not in query:
        answer = await call(server, "GET", f"/v1/history/news?{query}", server.bearer())
        assert (answer.status, answer.name) == (400, "bad_request")


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=1&limit=2", "reverse=maybe", "after=0&reverse=1"])
async def test_history_queries_that_are_wrong(server: RunningServer, query: str) -> None:
    answer = await call(server, "GET", f"/v1/history/news?{query}", server.bearer())
    assert (answer.status, answer.name) == (400, "bad_request")


async def test_cursors_of_other_channels_and_channels_named_wrongly(server: RunningServer) -> None:
    for query in (
        *("", "name=", "name=a&name=a", "name=a&name=b&after=0", "name=a&name=b&after=a=0,c=0", "name=a%00b"),
        *("name=%ff", "name=a&name=b&after=a=0,a=0", "name=a&name=b&after=%C3%BC=0", "name=*"),
        "&".join(f"name=c{number}" for number in range(Limits().channels_per_request_max + 1)),
    ):
        for accept in ({}, EVENTS):
            answer = await call(server, "GET", f"/v1/channels?{query}", {**accept, **server.bearer()})
            assert (answer.status, answer.name) == (400, "bad_request"), query
    names = "&".join(f"name={number}{'x' * 250}" for number in range(9))
    answer = await call(server, "GET", f"/v1/channels?{names}", server.bearer())
    assert (answer.status, answer.name) == (413, "too_large")


@pytest.mark.parametrize(
    "value", ["x", "é-1-00000000", "\xff", "0,0", "k" * (CURSOR_MAX_BYTES + 1)], ids=lambda value: value[:20]
)
async def test_a_last_event_id_that_is_wrong(server: RunningServer, value: str) -> None:
    headers = {**EVENTS, **server.bearer(), "Last-Event-ID": value}
    answer = await call(server, "GET", "/v1/channels/news", headers)
    assert answer.status == (413 if len(value) > CURSOR_MAX_BYTES else 400)
    assert answer.name in ("bad_request", "too_large")


PATHS = [
    *(b"/v1/channels/", b"/v1/channels/a/b", b"/v1/channels/..", b"/v1/channels/.", b"/v1/channels/%2e%2e"),
    *(b"/v1/channels/%2E", b"/v1/channels/a/../b", b"/v1/channels//a", b"/v1/channels/%00", b"/v1/channels/a%00b"),
    *(b"/v1/channels/%0d%0aX:%20y", b"/v1/channels/%7f", b"/v1/channels/%c2%85", b"/v1/channels/%"),
    *(b"/v1/channels/%2", b"/v1/channels/%zz", b"/v1/channels/%c0%af", b"/v1/channels/%e0%80%af"),
    *(b"/v1/channels/%ff", b"/v1/channels/%ed%a0%80", b"/v1/channels/e%cc%81", b"/v1/channels/a*"),
    *(b"/v1/channels/%2A", b"/v1/channels/" + b"x" * 256, b"/v1/channels/" + b"%C3%BC" * 128),
    *(b"/v1/channels/" + b"x" * 5_000, b'/v1/channels/"', b"/v1/channels/a\\b", b"/v1/channels/{a}"),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[13:40].decode("latin-1"))
async def test_paths_that_name_no_channel(server: RunningServer, path: bytes) -> None:
    for target in (path, path.replace(b"channels", b"history", 1), path.replace(b"channels", b"presence", 1)):
        answer = await call(server, "GET", target, server.bearer())
        assert (answer.status, answer.name) == (400, "bad_request")
    answer = await call(server, "POST", path, {**server.bearer(), **JSON}, b"1")
    assert (answer.status, answer.name) == (400, "bad_request")
    assert (await call(server, "GET", path, {**EVENTS, **server.bearer()})).name == "bad_request"


async def test_one_spelling_cannot_become_another(server: RunningServer) -> None:
    """Decoded once and only once: `%252F` is the name `%2F`, and `%2F` the name `/`, and neither leads elsewhere."""
    poor = server.bearer(scope="hybrid:subscribe:a%252Fb hybrid:publish:a%252Fb")
    for target, status in (("a%2Fb", 403), ("a%252Fb", 200), ("a%25252Fb", 403), ("a%2f..%2Fb", 403)):
        assert (await call(server, "GET", f"/v1/channels/{target}", poor)).status == status
        assert (await call(server, "POST", f"/v1/channels/{target}", {**poor, **JSON}, b"1")).status == status


async def test_paths_beside_ours(server: RunningServer) -> None:
    for target in ("/v1/", "/v1/channel", "/v1/channelsx", "/v1/history", "/v1/stream/", "/v1/Stream", "/v1/x%2Fy"):
        answer = await call(server, "GET", target, server.bearer())
        assert (answer.status, answer.name) == (404, "not_found")
        assert "/v1/channels/NAME" in answer.json()["detail"] or "answers" in answer.json()["detail"]
    for target in ("/", "//v1/channels/news", "/V1/channels/news", "/v2/", "/v1", "/%76%31/channels/news"):
        assert (await call(server, "GET", target, server.bearer())).status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "X"])
async def test_other_methods(server: RunningServer, method: str) -> None:
    for path in [*POSTS, "/v1/history/news", "/v1/presence/news", "/v1/channels"]:
        answer = await call(server, method, path, server.bearer())
        assert (answer.status, answer.name) == (404, "not_found")
        assert "GET" in answer.json()["detail"] or "POST" in answer.json()["detail"]


async def test_get_where_one_posts_and_the_other_way_round(server: RunningServer) -> None:
    for method, path in (
        *(("GET", path) for path in ("/v1/publish", "/v1/ticket", "/v1/command")),
        *(("POST", path) for path in ("/v1/channels", "/v1/history/news", "/v1/presence/news")),
    ):
        answer = await call(server, method, path, server.bearer())
        assert (answer.status, answer.name) == (404, "not_found")


@pytest.mark.parametrize(
    "media_type",
    [
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "image/png"),
        *("application/jsonx", "json", "*/*", ";", "application/x-www-form-urlencoded, application/json"),
    ],
)
async def test_only_three_kinds_of_bodies_are_published(server: RunningServer, media_type: str) -> None:
    headers = {**server.bearer(), "Content-Type": media_type}
    answer = await call(server, "POST", "/v1/channels/news", headers, b'"data=1"')
    assert (answer.status, answer.name) == (400, "bad_request")
    assert "application/json" in answer.json()["detail"]


HEADERS = [
    ("Idempotency-Key", ""),
    ("Idempotency-Key", "k" * (KEY_MAX_BYTES + 1)),
    ("Idempotency-Key", "\xfc" * (KEY_MAX_BYTES // 2 + 1)),
    ("Hybrid-Type", ""),
    ("Hybrid-Type", "t" * 65),
    ("Hybrid-Type", "a b"),
    ("Hybrid-Type", "\xfc"),
    ("Hybrid-Type", "message"),
    ("Hybrid-Type", "hybrid.reset"),
    ("Hybrid-Type", "a\tdata: x"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS, ids=[f"{name}-{value[:20]!r}" for name, value in HEADERS])
async def test_keys_and_types_that_are_wrong(server: RunningServer, name: str, value: str) -> None:
    headers = {**server.bearer(), **JSON, name: value}
    answer = await call(server, "POST", "/v1/channels/news", headers, b"1")
    assert (answer.status, answer.name) == (400, "bad_request")


def chunked(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b" " * size) for size in sizes) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        ("/v1/channels/news", Limits().data_max_bytes),
        ("/v1/publish", Limits().body_max_bytes),
        ("/v1/command", Limits().body_max_bytes),
        ("/v1/ticket", Limits().attach_max_bytes),
        ("/v1/stream", Limits().attach_max_bytes),
    ],
)
async def test_bodies_over_their_bound(server: RunningServer, path: str, bound: int) -> None:
    bodies: list[tuple[dict[str, str], bytes, str]] = [
        ({}, b" " * bound, "bad_request"),  # as large as may be, and only then looked at
        ({}, b" " * (bound + 1), "too_large"),
        ({"Transfer-Encoding": "chunked"}, chunked(bound), "bad_request"),
        ({"Transfer-Encoding": "chunked"}, chunked(*([1_000] * (bound // 1_000)), 1_000), "too_large"),
        ({"Content-Length": str(10**15)}, b"", "too_large"),
    ]
    for accept in ({}, EVENTS):
        for headers, body, name in bodies:
            answer = await call(server, "POST", path, {**server.bearer(), **JSON, **headers, **accept}, body)
            assert (answer.name, answer.status) == (name, 400 if name == "bad_request" else 413)


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_does_not_come(server: RunningServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.transports.exchange.BODY_TIMEOUT_S", 0.05)
    async with connected(server) as connection:
        connection.send(request("POST", path, {**server.bearer(), **JSON, "Content-Length": "10"}, b"{"))
        answer = await connection.answer()
        assert (answer.status, answer.name) == (400, "bad_request")
        assert "in time" in answer.json()["detail"]
        assert await connection.ended() == b""


@pytest.mark.parametrize("path", POSTS)
async def test_a_strangers_body_is_not_waited_for(server: RunningServer, path: str) -> None:
    async with connected(server) as connection:
        connection.send(request("POST", path, {**JSON, "Content-Length": "10"}))
        answer = await connection.answer()
        assert (answer.status, answer.name) == (401, "unauthorized")


CREDENTIALS: list[tuple[Callable[[str], list[tuple[str, str]]], int, str]] = [
    (lambda token: [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")], 400, "bad_request"),
    (lambda token: [("Authorization", f"Bearer {token}, Bearer {token}")], 400, "bad_request"),
    (lambda token: [("Authorization", f"Bearer {token} {token}")], 400, "bad_request"),
    (lambda token: [("Authorization", "Bearer")], 400, "bad_request"),
    (lambda token: [("Authorization", "")], 400, "bad_request"),
    (lambda token: [("Authorization", token)], 401, "unauthorized"),
    (lambda token: [("Authorization", f"Basic {token}")], 401, "unauthorized"),
    (lambda token: [("Authorization", f"Bearer {token}\xfc")], 400, "bad_request"),
    (lambda token: [("Authorization", f"Bearer {token}x")], 401, "token_refused"),
    (lambda token: [("Authorization", f"Bearer {'x' * 8_193}")], 401, "token_refused"),
    (lambda token: [("Cookie", f"token={token}")], 401, "unauthorized"),
]


@pytest.mark.parametrize("case", CREDENTIALS, ids=range(len(CREDENTIALS)))
@pytest.mark.parametrize("accept", [{}, EVENTS], ids=["json", "events"])
async def test_credentials_that_are_wrong(
    server: RunningServer,
    accept: dict[str, str],
    case: tuple[Callable[[str], list[tuple[str, str]]], int, str],
) -> None:
    headers, status, name = case
    token = server.token()
    for method, path in (("GET", "/v1/channels/news"), ("GET", "/v1/history/news"), *(("POST", p) for p in POSTS)):
        answer = await call(server, method, path, [*accept.items(), *JSON.items(), *headers(token)])
        assert (answer.status, answer.name) == (status, name)
        assert not quoted(answer, token)


async def test_a_token_in_a_url_is_refused_on_every_route(server: RunningServer) -> None:
    token = server.token()
    for path in ("/v1/channels/news", "/v1/channels", "/v1/history/news", "/v1/presence/news", "/v1/stream", *POSTS):
        for query in (f"access_token={token}", f"token={token}", f"JWT={token}", f"x={token}", f"Bearer%20{token}"):
            for method in ("GET", "POST"):
                answer = await call(server, method, f"{path}?{query}", server.bearer())
                assert (answer.status, answer.name) == (400, "bad_request")
                assert "Authorization header" in answer.json()["detail"]
                assert not quoted(answer, token)


def quoted(answer: Answer, credential: str) -> bool:
    shown = f"{answer.headers} {answer.body!r}"
    return any(part in shown for part in credential.split("."))


async def test_what_no_http_server_takes(server: RunningServer) -> None:
    """Broken before it is a request: Hypercorn answers, or ends it; either way at once."""
    for raw in (
        *(b"\r\n\r\n\r\n", b"\x00" * 100, b"GET /v1/channels/news\r\n\r\n", b"GET /v1/channels/a b HTTP/1.1\r\n\r\n"),
        request("GET", "/v1/channels/news", {"X": "a" * 500_000}),
        request("GET", "/v1/channels/" + "x" * 500_000),
        request("GET", "/v1/channels/news", {"Bad Name": "x"}),
        request("POST", "/v1/channels/news", {"Content-Length": "-1"}),
        request("POST", "/v1/channels/news", {"Content-Length": "1, 2"}),
        request("POST", "/v1/channels/news", [("Content-Length", "1"), ("Content-Length", "2")], b"xx"),
        request("GET", "/v1/channels/news", {"X": "a\x00b"}),
        request("GET", "/v1/channels/news\x00"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ):
        async with connected(server) as connection:
            connection.send(raw)
            if connection.writer.can_write_eof():
                connection.writer.write_eof()
            said = await connection.ended()
            assert b" 200" not in said.split(b"\r\n", 1)[0]


async def test_names_and_types_cannot_write_headers_or_events(server: RunningServer) -> None:
    """A name is echoed in bodies only, as JSON; in ids percent-encoded."""
    target = "/v1/channels?name=a%22%2C%3D%26b&name=ok"
    answer = await call(server, "GET", f"{target}&history=1", server.bearer())
    assert answer.status == 200
    assert not [value for value in answer.headers.values() if "," in value and "a" in value.split(",")[0].split()]
    assert answer.json()["cursor"] == "a%22%2C%3D%26b=0,ok=0"
