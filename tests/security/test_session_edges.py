"""What one client can make the server hold, wait for or give away, at the edges of sessions, tickets and answers.

Each test keeps a mended fault from coming back; its text tells the fault.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import replace
from typing import Any

import pytest

from hybrid.auth.origin import DoorPolicy
from hybrid.engine.runner import QUEUE_MAX
from hybrid.errors import TABLE, HybridError
from hybrid.limits import CHANNEL_NAME_MAX_BYTES
from hybrid.model import Principal
from hybrid.settings import Namespace
from hybrid.transports.exchange import Exchange
from hybrid.transports.gate import Gate
from tests.support.bytewise import EVENTS, JSON, bystander, call, event_stream, text, until, websocket
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.sessions import STREAM, asked, attach, attached, heard, post
from tests.support.world import Clock

HANDOFF = pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
BIG = {"big": Namespace("big", history_size=200, history_ttl_s=60), "default": Namespace("default")}
PURPOSES = pytest.mark.parametrize("purpose", ["channels", "session"])
LISTED = "https://app.example"


class SlowVerifier:
    """Stands before a server's verifier: checks wait until they are let, and say when the first one waits."""

    def __init__(self, server: RunningServer) -> None:
        self._verify = server.engine.verifier.verify
        self.has_begun = asyncio.Event()
        self.gate = asyncio.Event()
        server.engine.verifier.verify = self.verify  # type: ignore[method-assign]

    async def verify(self, token: str, proven_key: str = "") -> Principal:
        self.has_begun.set()
        await self.gate.wait()
        return await self._verify(token, proven_key)


async def publish_big(server: RunningServer, count: int) -> None:
    for _ in range(count):
        await server.engine.publish("big:1", "x" * 60_000)


# -- what waits for a client that does not read, or does not come back


@HANDOFF
async def test_answers_for_a_client_that_does_not_read_are_bounded(handoff: bool) -> None:
    """Publications waited for room in the buffer and answers did not: a few commands filled the server's memory."""
    count = 12
    async with running_server(settings_for(handoff=handoff, namespaces=BIG)) as server, bystander(server) as other:
        await publish_big(server, 20)
        async with websocket(server, STREAM, server.bearer()) as socket:
            await attached(socket)
            (leg,) = (leg for leg in server.engine.open.streams() if hasattr(leg, "runner"))
            socket.reader._transport.pause_reading()  # type: ignore[attr-defined]
            asking = {"method": "history", "channel": "big:1", "limit": 20}
            socket.send(b"".join(text({**asking, "id": number}) for number in range(1, count + 1)))
            await until(lambda: leg.link.buffered() > server.engine.limits.high_water_bytes)
            most = 0
            for _ in range(50):  # time enough for all of them, if anybody went on
                await other.still_hears()
                most = max(most, leg.link.buffered())
            assert most < 3 * server.engine.limits.body_max_bytes
            socket.reader._transport.resume_reading()  # type: ignore[attr-defined]
            for number in range(1, count + 1):  # and all are answered once there is room
                reply = await heard(socket, "reply")
                assert (reply["id"], len(reply["publications"]) > 1) == (number, True)


async def test_answers_of_one_post_are_bounded_in_all() -> None:
    """Each answer had its bound and their sum had none: 64 commands of a few bytes were answered with 64 MB."""
    async with running_server(settings_for(namespaces=BIG)) as server:
        await publish_big(server, 20)
        asking = [{"method": "history", "id": n, "channel": "big:1", "limit": 20} for n in range(1, 11)]
        answer = await post(server, "/v1/command", {"commands": asking})
        assert len(answer.body) < 3 * server.engine.limits.body_max_bytes
        replies = answer.json()["replies"]
        assert [reply["id"] for reply in replies] == list(range(1, 11))
        assert "publications" in replies[0]
        assert {reply["error"]["name"] for reply in replies[2:]} == {"limit_exceeded"}
        again = (await post(server, "/v1/command", {"commands": asking[-1:]})).json()["replies"]
        assert "publications" in again[0], "what was refused for its place is answered on its own"


@HANDOFF
async def test_commands_behind_a_slow_one_wait_at_the_client(handoff: bool) -> None:
    """Commands without a number went straight into the session's queue, as many and as large as the client liked.

    While the server does not read, the client's silence is none of its own, and does not end its leg.
    """
    clock, count = Clock(), 400
    async with running_server(settings_for(handoff=handoff), clock=clock) as server:
        async with websocket(server, STREAM, server.bearer()) as socket:
            await attached(socket)
            (runner,), (leg,) = server.engine.registry.runners(), server.engine.open.streams()
            slow = SlowVerifier(server)
            wrong = "x" * 4_000
            socket.send(b"".join(text({"method": "refresh", "id": n, "token": wrong}) for n in range(1, count + 1)))
            await slow.has_begun.wait()
            await until(lambda: not leg.is_listening)  # type: ignore[attr-defined]
            assert 0 < len(runner._queue or ()) <= QUEUE_MAX
            for _ in range(4):
                clock.advance(server.engine.limits.heartbeat_interval_s)
                server.engine.wheel.advance(clock.monotonic_s())
            slow.gate.set()
            assert [(await heard(socket, "reply"))["id"] for _ in range(count)] == list(range(1, count + 1))


async def test_a_polled_session_whose_client_never_comes_back_is_forgotten() -> None:
    """The first answer is a poll too: an attach that nobody followed up left a session for as long as the process."""
    clock = Clock()
    async with running_server(settings_for(), clock=clock) as server:
        for confirm in (True, False):
            answer = await post(server, STREAM, attach("a", confirm=confirm))
            assert answer.status == 200
        assert len(server.engine.registry) == 2
        limits = server.engine.limits
        for _ in range(4):
            clock.advance(limits.session_kept_s + limits.poll_wait_max_s + 1)
            server.engine.wheel.advance(clock.monotonic_s())
        assert len(server.engine.registry) == 0


async def test_what_was_subscribed_one_by_one_can_be_attached_at_once() -> None:
    """Long names went in one after another, and the attach that named them all was too large for every transport."""
    names = [f"{number:03d}" + "n" * (CHANNEL_NAME_MAX_BYTES - 3) for number in range(256)]
    async with running_server(settings_for()) as server:
        joined: list[dict[str, Any]] = []
        async with websocket(server, STREAM, server.bearer()) as socket:
            session = await attached(socket)
            for n, name in enumerate(names, 1):
                await server.engine.publish(name, 1)
                reply = await asked(socket, {"method": "subscribe", "id": n, "n": n, "channel": name})
                if "error" in reply:
                    break
                joined.append({"channel": name, "position": reply["position"]})
            assert reply["error"]["name"] == "limit_exceeded"
            assert len(joined) > 100
        polled = await post(server, STREAM, attach(*joined, attempt=2, session=session))
        assert polled.status == 200, polled
        async with websocket(server, STREAM, server.bearer()) as socket:
            await attached(socket, *joined, attempt=3, session=session)


# -- who may


async def test_who_may_publish_one_may_publish_many_without_a_token() -> None:
    """Only open reading counted as open: the batch's door refused strangers whom the single publish let in."""
    pub = Namespace("pub", publish="anyone", subscribe="token", allow_anonymous_publish=True)
    async with running_server(settings_for(namespaces={"pub": pub})) as server:
        one = await call(server, "POST", "/v1/channels/pub%3Aa", JSON, b"1")
        batch = {"publications": [{"channel": "pub:a", "data": 2}, {"channel": "other:a", "data": 3}]}
        many = await post(server, "/v1/publish", batch, {})
        assert (one.status, many.status) == (200, 200)
        taken, refused = many.json()["results"]
        assert taken["position"]["offset"] == 2
        assert refused["error"]["name"] == "unauthorized", "an open namespace opens no other"


def wanted_for(purpose: str) -> dict[str, Any]:
    if purpose == "channels":
        return {"purpose": purpose, "channels": ["a"]}
    return {"purpose": purpose, "attach": attach("a")}


def path_for(purpose: str, ticket: str) -> str:
    return f"{'/v1/channels/a' if purpose == 'channels' else STREAM}?ticket={ticket}"


@PURPOSES
async def test_a_page_of_our_own_can_use_its_ticket(purpose: str) -> None:
    """A browser names the Origin in a page's POST and not in its GET of the same origin, so none of ours could."""
    async with running_server(settings_for()) as server:
        host = f"127.0.0.1:{server.port}"
        asking = {**server.bearer(), "Origin": f"http://{host}"}
        ticket = (await post(server, "/v1/ticket", wanted_for(purpose), asking, host=host)).json()["ticket"]
        async with event_stream(server, path_for(purpose, ticket), {"Host": host}) as stream:
            await stream.event()


@PURPOSES
async def test_a_listed_page_can_use_its_ticket_and_nobody_else_can(purpose: str) -> None:
    """Leaving out the Origin of our own pages must not leave out that of others."""
    async with running_server(replace(settings_for(), allowed_origins=(LISTED,))) as server:
        host = f"127.0.0.1:{server.port}"
        asking = {**server.bearer(), "Origin": LISTED}
        for thief in (None, f"http://{host}"):
            ticket = (await post(server, "/v1/ticket", wanted_for(purpose), asking, host=host)).json()["ticket"]
            headers = {**EVENTS, **({} if thief is None else {"Origin": thief})}
            refused = await call(server, "GET", path_for(purpose, ticket), headers, host=host)
            assert (refused.status, refused.name) == (401, "token_refused")
        ticket = (await post(server, "/v1/ticket", wanted_for(purpose), asking, host=host)).json()["ticket"]
        async with event_stream(server, path_for(purpose, ticket), {"Host": host, "Origin": LISTED}) as stream:
            await stream.event()
        foreign = {**server.bearer(), "Origin": "https://evil.example"}
        answer = await post(server, "/v1/ticket", wanted_for(purpose), foreign, host=host)
        assert (answer.status, answer.name) == (403, "origin_refused")


@pytest.mark.parametrize(
    ("origin", "scheme", "is_same_allowed", "bound_to"),
    [
        (None, "http", True, None),
        ("http://hybrid.example", "http", True, None),
        ("https://hybrid.example", "https", True, None),
        ("http://hybrid.example", "https", True, "http://hybrid.example"),
        ("https://hybrid.example:8443", "https", True, "https://hybrid.example:8443"),
        (LISTED, "https", True, LISTED),
        (LISTED, "https", False, LISTED),
        ("https://evil.example", "https", True, "https://evil.example"),
        ("null", "https", True, "null"),
    ],
)
def test_a_ticket_is_bound_to_every_origin_but_our_own(
    origin: str | None, scheme: str, is_same_allowed: bool, bound_to: str | None
) -> None:
    """The Origin of our own pages binds nothing; a neighbour's port, another scheme and a listed page do."""
    policy = DoorPolicy([LISTED], ["hybrid.example"], allow_same_origin=is_same_allowed)
    headers = [(b"host", b"hybrid.example"), *([] if origin is None else [(b"origin", origin.encode())])]
    assert policy.foreign_origin(headers, scheme=scheme) == bound_to


# -- what is told


BUSY = [row.name for row in TABLE.values() if row.http_status in (429, 503)]


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 0.4, 7.0])
@pytest.mark.parametrize("name", BUSY)
async def test_whoever_is_told_to_come_back_is_told_when(name: str, retry_after_s: float | None) -> None:
    """Some refusals said 429 or 503 without `Retry-After`, and clients that go by it came back at once."""
    async with running_server(settings_for()) as server:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        exchange = Exchange({"type": "http", "method": "GET", "headers": []}, receive, send)
        gate = Gate(server.engine, DoorPolicy([], ["hybrid.example"]))
        await gate.refuse(exchange, HybridError(name, retry_after_s=retry_after_s))
    (head,) = (message for message in sent if message["type"] == "http.response.start")
    (value,) = (value for key, value in head["headers"] if key == b"retry-after")
    assert int(value) == max(1, round(retry_after_s or 0))


@HANDOFF
async def test_no_client_writes_into_the_access_log(handoff: bool, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each stream, with the address of its connection: not what headers say, and no control characters."""
    caplog.set_level(logging.INFO, logger="hybrid.access")
    forged = "192.0.2.1\x1b[2J\x07 admin"
    claims = {"X-Forwarded-For": forged, "Forwarded": f"for={forged}", "X-Real-IP": forged, "User-Agent": forged}
    async with running_server(settings_for(handoff=handoff)) as server:
        async with websocket(server, STREAM, {**server.bearer(), **claims}) as socket:
            await attached(socket, "a", client={"name": "forged\n\x1b[2J", "version": "1"})
            own = socket.writer.get_extra_info("sockname")[1]
            socket.reset()
            await until(lambda: len(server.engine.open) == 0)
        async with event_stream(server, "/v1/channels/a", {**server.bearer(), **claims}) as stream:
            await stream.event()
            other = stream.connection.writer.get_extra_info("sockname")[1]
            stream.connection.reset()
            await until(lambda: len(server.engine.open) == 0)
    lines = [record.getMessage() for record in caplog.records if record.name == "hybrid.access"]
    assert len(lines) == 2
    assert lines[0].startswith(f"127.0.0.1:{own} websocket session=")
    assert lines[1].startswith(f"127.0.0.1:{other} sse channels=1 code=")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))
    assert "192.0.2.1" not in json.dumps(lines)
