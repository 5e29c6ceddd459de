"""What an exchange makes of a connection that is kept, and of what stands in between."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest

from hybrid.errors import ProtocolError
from hybrid.links.head import HeadLines
from hybrid.links.kept_request import KeptRequest
from hybrid.transports.exchange import Exchange

Headers = Sequence[tuple[bytes, bytes]]
SAID = ((b"host", b"test"), (b"accept", b"text/event-stream"))


class Carrier:
    """A connection that goes nowhere."""

    transport = asyncio.Transport()

    def __init__(self) -> None:
        self.written = b""

    async def write(self, data: bytes) -> None:
        self.written += data

    def server_headers(self) -> Headers:
        return [(b"server", b"test")]

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def asked(method: str = "GET", headers: Headers = SAID, body: bytes = b"") -> tuple[Carrier, KeptRequest]:
    carrier = Carrier()
    scope = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
    kept = KeptRequest(carrier, scope, HeadLines(tuple(headers), len(body)))
    kept.feed(body)
    return carrier, kept


def again(kept: KeptRequest) -> KeptRequest:
    """The next request, whose lines are the same."""
    return KeptRequest(Carrier(), {**kept.scope, "headers": list(kept.lines.headers)}, kept.lines)


def test_headers_are_read_once_for_all_requests_that_say_the_same() -> None:
    read: list[Headers] = []

    def reader(headers: Headers) -> int:
        read.append(headers)
        return len(headers)

    _, kept = asked()
    for one in (kept, again(kept), again(kept)):
        assert Exchange(one.scope, one.receive, one.send).read_headers(reader) == 2
    assert read == [SAID]


@pytest.mark.parametrize("change", [(b"authorization", b"Bearer x"), None])
def test_what_stands_in_between_may_change_headers(change: tuple[bytes, bytes] | None) -> None:
    _, kept = asked()
    assert Exchange(kept.scope, kept.receive, kept.send).accepts("text/event-stream")
    changed = again(kept)
    changed.scope["headers"] = [change] if change else []
    exchange = Exchange(changed.scope, changed.receive, changed.send)
    assert not exchange.accepts("text/event-stream")
    assert exchange.read_headers(list) == changed.scope["headers"]
    assert Exchange(kept.scope, kept.receive, kept.send).accepts("text/event-stream"), "nothing of it is remembered"


@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize(("method", "body"), [("GET", b"[1]"), ("HEAD", b"")])
async def test_an_answer_is_the_same_with_somebody_in_between(is_seen: bool, method: str, body: bytes) -> None:
    carrier, kept = asked(method)
    seen: list[str] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        seen.append(message["type"])
        await kept.send(message)

    await Exchange(kept.scope, kept.receive, send if is_seen else kept.send).respond(200, b"[1]")
    assert seen == (["http.response.start", "http.response.body"] if is_seen else [])
    head, _, rest = carrier.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-length: 3\r\n" in head
    assert head.endswith(b"\r\nserver: test")
    assert (rest, kept.is_answered, kept.status) == (body, True, 200)
    with pytest.raises(RuntimeError):
        await kept.answer(200, [], b"")


async def test_a_body_is_taken_whole_or_waited_for() -> None:
    _, kept = asked("POST", body=b"abc")
    assert await Exchange(kept.scope, kept.receive, kept.send).body(3) == b"abc"
    _, kept = asked("POST", body=b"abc")
    with pytest.raises(ProtocolError, match="larger than 2 bytes"):
        await Exchange(kept.scope, kept.receive, kept.send).body(2)
    kept = KeptRequest(Carrier(), kept.scope, HeadLines(SAID, 3))
    kept.feed(b"a")
    reading = asyncio.create_task(Exchange(kept.scope, kept.receive, kept.send).body(3))
    await asyncio.sleep(0)
    kept.feed(b"bc")
    assert await reading == b"abc"


def queried(query: bytes) -> Exchange:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None: ...

    return Exchange({"type": "http", "path": "/", "query_string": query, "headers": []}, receive, send)


def test_a_query_is_text_where_it_is_asked_for() -> None:
    exchange = queried(b"a=%ff&b=1&b=2&c=%C3%A4")
    assert (exchange.query("b"), exchange.query("c"), exchange.query("d")) == (["1", "2"], ["ä"], [])
    for one in (exchange, queried(b"a=\xff")):
        with pytest.raises(ProtocolError, match="`a` is not UTF-8"):
            one.query("a")
