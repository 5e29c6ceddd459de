"""`hybrid doctor` behind proxies that meddle: it names what each does, and what is left to use."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from hybrid.client import Client
from hybrid.client.doctor import TRANSPORTS, Finding, Pace, examine
from hybrid.client.doctor.idle import hold_line, hold_poll
from hybrid.client.doctor.lines import Broken, EventStreamLine, WebSocketLine
from hybrid.client.doctor.longpoll import Polling
from hybrid.client.doctor.verdict import conclude
from hybrid.client.endpoint import Endpoint
from hybrid.engine.polled import PolledLeg
from hybrid.limits import Limits
from tests.support.bytewise import until
from tests.support.meddler import Meddler, Meddling, meddler
from tests.support.nodes import ROOT
from tests.support.processes import free_port
from tests.support.server import RunningServer, running_server, settings_for

PACE = Pace(patience_s=2.5, wait_s=0.5, held_s=0.3, gap_s=0.15, beats=4, grace_s=1.0, heartbeat_s=0.2)
LIMITS = Limits(echo_interval_s=0.05, heartbeat_interval_min_s=1.0)
"""Echoes below the pace: what is asked for sooner comes together. Heartbeats above the silences."""


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(limits=LIMITS)) as running:
        yield running


@pytest.fixture
async def proxy(server: RunningServer) -> AsyncIterator[Meddler]:
    async with meddler(server.port) as running:
        yield running


async def examined(port: int, token: str | None, pace: Pace = PACE) -> dict[str, Finding]:
    endpoint = Endpoint(f"http://127.0.0.1:{port}")
    await endpoint.open()
    try:
        return {found.name: found for found in await examine(endpoint, token, pace=pace)}
    finally:
        await endpoint.close()


def works(findings: dict[str, Finding]) -> list[str]:
    return [name for name in ("server", *TRANSPORTS) if name in findings and findings[name].works]


async def test_where_nothing_is_in_between_all_works(server: RunningServer) -> None:
    findings = await examined(server.port, server.token())
    assert works(findings) == ["server", "websocket", "sse", "longpoll"]
    beats = r"heartbeats come \d+ ms after they are asked for"
    assert re.fullmatch(rf"open after \d+ ms; {beats}", findings["websocket"].facts[0])
    assert re.fullmatch(rf"first event after \d+ ms; {beats}", findings["sse"].facts[0])
    assert re.fullmatch(r"answered in \d+ ms, a poll of 0.5 s after 0.[5-9] s", findings["longpoll"].facts[0])
    assert all(len(finding.facts) == 1 for finding in findings.values())


async def test_without_a_token_the_server_is_heard_refusing(server: RunningServer) -> None:
    findings = await examined(server.port, None)
    assert works(findings) == ["server", "websocket", "sse", "longpoll"]
    assert all("is heard, and wants a token" in findings[name].facts[0] for name in TRANSPORTS)


async def test_a_refused_token_is_the_servers_word_and_not_the_networks(server: RunningServer) -> None:
    findings = await examined(server.port, "nonsense")
    assert all("the server is heard, and refuses: " in findings[n].facts[0] for n in TRANSPORTS)


async def test_where_there_is_no_server_one_sentence_says_so() -> None:
    findings = await examined(free_port(), None)
    assert works(findings) == []
    assert findings["server"].facts[0].startswith("cannot be reached: ")


async def test_what_a_stranger_writes_does_not_reach_the_terminal_as_it_is(
    server: RunningServer, proxy: Meddler
) -> None:
    body = b'{"number":3429,"detail":"\\u001b]0;owned\\u0007\\nx","status":429}'
    answer = b"HTTP/1.1 429 Slow\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    proxy.rule = lambda head: Meddling(answer=answer) if b"/v1/stream" in head else Meddling()
    findings = await examined(proxy.port, None)
    assert all(fact.isprintable() for finding in findings.values() for fact in finding.facts)
    assert "?]0;owned??x" in findings["sse"].facts[0]


async def test_an_answer_that_is_nested_too_deeply_is_not_ours(server: RunningServer, proxy: Meddler) -> None:
    body = b'{"pushes":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    proxy.rule = lambda head: Meddling(answer=answer) if b"/v1/stream" in head else Meddling()
    findings = await examined(proxy.port, None)
    assert works(findings) == ["server"]
    assert findings["longpoll"].facts == ("what came back is not ours: answers are changed on the way",)


# -- what proxies do


def is_(path: bytes) -> Callable[[bytes], bool]:
    return lambda head: path in head.split(b"\r\n", 1)[0]


def upgrade_is_taken_out(head: bytes) -> Meddling:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"upgrade:", b"connection:"))]
    return Meddling(
        request=lambda _: b"\r\n".join([*lines[:-2], b"Connection: close", b"", b""]),
        response=lambda answer: answer.replace(b"\r\n", b"\r\nVia: 1.1 office (squid/5.7)\r\n", 1),
    )


async def test_upgrade_is_taken_out(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: upgrade_is_taken_out(head) if b"Upgrade: websocket" in head else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "sse", "longpoll"]
    told = "`Upgrade` is taken out on the way (Via: 1.1 office (squid/5.7))"
    assert findings["websocket"].facts == (told,)


async def test_the_handshake_is_answered_by_somebody_else(server: RunningServer, proxy: Meddler) -> None:
    page = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nX-Cache: DENY\r\nConnection: close\r\n\r\nBlocked"
    proxy.rule = lambda head: Meddling(answer=page) if b"Upgrade: websocket" in head else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "sse", "longpoll"]
    told = "the handshake was answered with HTTP 403 instead of 101 (X-cache: DENY)"
    assert findings["websocket"].facts == (told,)


async def test_frames_are_swallowed_behind_a_handshake_that_passes(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body="swallow") if b"Upgrade: websocket" in head else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "sse", "longpoll"]
    assert re.fullmatch(
        r"opened after \d+ ms, then nothing came back: frames are swallowed", findings["websocket"].facts[0]
    )


@pytest.mark.parametrize("code", [1013, 1014])
async def test_a_gateway_that_closes_by_itself_is_not_the_server(code: int) -> None:
    """RFC 6455's registry: 1013 try again later, 1014 bad gateway. No hybrid server says either."""

    async def gateway(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(code, "upstream\x1b[2J")

    async with serve(gateway, "127.0.0.1", 0, subprotocols=[Subprotocol("hybrid.v1")]) as listening:
        endpoint = Endpoint(f"http://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}")
        line = WebSocketLine(endpoint, None, PACE.patience_s)
        with pytest.raises(Broken) as caught:
            await line.open()
        await line.close()
    assert caught.value.flaw == "cut"
    assert re.fullmatch(rf"opened after \d+ ms, then closed with {code} upstream\?\[2J", caught.value.facts[0])


def is_event_stream(head: bytes) -> bool:
    return b"text/event-stream" in head


async def test_bodies_are_kept_until_they_are_whole(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body="keep") if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "longpoll"]
    assert findings["sse"].facts == (f"no answer within {PACE.patience_s:g} s: held back until it would be whole",)


async def test_the_body_of_a_stream_is_swallowed(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body="swallow") if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "longpoll"]
    assert re.fullmatch(
        r"the head came after \d+ ms and nothing behind it: the body is held back", findings["sse"].facts[0]
    )


async def test_a_body_that_is_held_back_for_a_while_is_told(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body_after_s=0.5) if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert findings["sse"].works
    assert re.fullmatch(r"the body was held back for 0.[5-9] s", findings["sse"].facts[1])
    assert findings["sse"].flaws == ("held",)


async def test_a_gateway_that_cuts_requests_that_wait(server: RunningServer, proxy: Meddler) -> None:
    late = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    polls = 0

    def rule(head: bytes) -> Meddling:
        nonlocal polls
        if not head.startswith(b"POST /v1/stream") or is_event_stream(head):
            return Meddling()
        polls += 1
        return Meddling(answer=late, answer_after_s=0.2) if polls == 2 else Meddling()

    proxy.rule = rule
    findings = await examined(proxy.port, server.token())
    assert findings["longpoll"].works
    assert re.fullmatch(
        r"a poll that waits is cut after 0.[2-4] s \(answered with HTTP 504, not by the server\); shorter ones .*",
        findings["longpoll"].facts[1],
    )


async def test_a_sign_in_page_of_the_network(proxy: Meddler) -> None:
    page = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 16\r\nConnection: close\r\n\r\n<h1>Welcome</h1>"
    )
    proxy.rule = lambda head: Meddling(answer=page)
    findings = await examined(proxy.port, None)
    assert works(findings) == []
    assert findings["server"].facts[0].startswith("HTTP 200 that is not hybrid's: a sign-in page")


async def test_a_cut_behind_the_handshake(server: RunningServer, proxy: Meddler) -> None:
    opened = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    proxy.rule = lambda head: Meddling(answer=opened) if b"Upgrade: websocket" in head else Meddling()
    findings = await examined(proxy.port, server.token())
    assert not findings["websocket"].works
    assert "the handshake failed: " in findings["websocket"].facts[0]


# -- what comes late


IS_STREAM = {"websocket": lambda head: b"Upgrade: websocket" in head, "sse": is_event_stream}


@pytest.mark.parametrize("transport", IS_STREAM)
async def test_each_event_waits_for_the_next(server: RunningServer, proxy: Meddler, transport: str) -> None:
    proxy.rule = lambda head: Meddling(body="behind") if IS_STREAM[transport](head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "sse", "longpoll"]
    assert findings[transport].flaws == ("behind",)
    assert findings[transport].facts[1].startswith("one behind: each event is held back until the next one comes")
    assert conclude(findings.values()).will_use == ("sse" if transport == "websocket" else "websocket")


@pytest.mark.parametrize("transport", IS_STREAM)
async def test_events_come_in_lumps(server: RunningServer, proxy: Meddler, transport: str) -> None:
    proxy.rule = lambda head: Meddling(body="lumps", lump_s=0.4) if IS_STREAM[transport](head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert findings[transport].flaws in {("lumps",), ("held", "lumps")}
    assert any(re.match(r"in lumps: up to [234] events at once, up to .* late", f) for f in findings[transport].facts)


async def test_commands_that_are_posted_do_not_pass(server: RunningServer, proxy: Meddler) -> None:
    page = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nVia: 1.1 filter\r\nConnection: close\r\n\r\n"
    proxy.rule = lambda head: Meddling(answer=page) if is_(b"/v1/command")(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "longpoll"]
    told = "a POST beside it is answered with HTTP 403, not by the server"
    assert findings["sse"].facts == (told, "Via: 1.1 filter")


# -- what happens in silence


SILENT = replace(PACE, idle_s=0.6)


async def test_nothing_is_said_and_all_stays(server: RunningServer) -> None:
    findings = await examined(server.port, server.token(), SILENT)
    for name in ("websocket-idle", "sse-idle"):
        assert re.fullmatch(r"still there after \d+ ms, \d+ ms of it without a byte", findings[name].facts[0])
    waited = r"a request that is to wait for 600 ms is answered after (6\d\d|[7-9]\d\d) ms|.* after \d\.\d s"
    assert re.fullmatch(waited, findings["longpoll-idle"].facts[0])
    assert findings["longpoll-idle"].figures["held_ms"] >= 600
    assert all(not finding.flaws for finding in findings.values())


async def test_a_poll_that_is_answered_early_is_told_as_that(server: RunningServer, proxy: Meddler) -> None:
    body = b'{"pushes":[]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    endpoint = Endpoint(f"http://127.0.0.1:{proxy.port}")
    await endpoint.open()
    requests = itertools.count()
    proxy.rule = lambda head: Meddling(answer=answer) if next(requests) else Meddling()
    finding = await hold_poll(Polling(endpoint, server.token(), 5.0), replace(SILENT, idle_s=20.0))
    await endpoint.close()
    assert re.fullmatch(r"a request that is to wait for 20.0 s is answered after (\d+ ms|\d\.\d s)", finding.facts[0])
    assert finding.figures["held_ms"] < 10_000


async def test_a_poll_that_the_server_ends_is_the_servers_word(server: RunningServer) -> None:
    endpoint = Endpoint(f"http://127.0.0.1:{server.port}")
    await endpoint.open()
    polling = Polling(endpoint, server.token(), 5.0)
    holding = asyncio.create_task(hold_poll(polling, replace(SILENT, idle_s=20.0)))
    try:
        await until(lambda: polling.attached is not None)
        leg = server.engine.registry.runners()[0].session.current
        assert isinstance(leg, PolledLeg)
        leg.end("rotated")  # the poll that waits, or the next one, says so
        finding = await holding
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await endpoint.close()
    assert finding.works
    assert re.fullmatch(
        r"ended by the server itself after [\d.]+ m?s: The stream has lived long enough.*", finding.facts[0]
    )


async def test_heartbeats_come_in_between() -> None:
    limits = replace(LIMITS, heartbeat_interval_s=0.3)
    async with running_server(settings_for(limits=limits)) as server:
        findings = await examined(server.port, server.token(), replace(SILENT, idle_s=1.2))
        for name in ("websocket-idle", "sse-idle"):
            assert re.search(r"and [2-5] heartbeats came$", findings[name].facts[0]), findings[name]


@pytest.mark.parametrize("transport", IS_STREAM)
async def test_an_idle_connection_is_cut(server: RunningServer, proxy: Meddler, transport: str) -> None:
    proxy.rule = lambda head: Meddling(idle_s=0.4) if IS_STREAM[transport](head) else Meddling()
    findings = await examined(proxy.port, server.token(), SILENT)
    finding = findings[f"{transport}-idle"]
    often = "a heartbeat every 1 s does not keep it open"
    assert re.fullmatch(rf"idle cut after \d+ ms; {often}", finding.facts[0])
    assert finding.flaws == ("idle_cut",)
    verdict = conclude(findings.values())
    assert verdict.will_use == ("sse" if transport == "websocket" else "websocket")


@pytest.mark.parametrize(
    ("transport", "is_mute"), [pytest.param("websocket", True, marks=pytest.mark.slow), ("sse", False)]
)
async def test_heartbeats_that_are_asked_for_keep_it_open(transport: str, is_mute: bool) -> None:
    limits = replace(LIMITS, heartbeat_interval_min_s=0.2)
    async with running_server(settings_for(limits=limits)) as server, meddler(server.port) as proxy:
        rule = Meddling(idle_s=0.7, idle_mute=is_mute)
        proxy.rule = lambda head: rule if IS_STREAM[transport](head) else Meddling()
        findings = await examined(proxy.port, server.token(), replace(SILENT, idle_s=1.5))
    finding = findings[f"{transport}-idle"]
    what = "found silently dead after" if is_mute else "idle cut after"
    assert re.fullmatch(rf"{what} .*; with a heartbeat every 0.2 s it stays open", finding.facts[0])
    assert finding.flaws == ()
    assert conclude(findings.values()).will_use == "websocket"


@pytest.mark.parametrize("transport", IS_STREAM)
async def test_an_idle_connection_dies_in_silence(server: RunningServer, proxy: Meddler, transport: str) -> None:
    proxy.rule = lambda head: Meddling(idle_s=0.4, idle_mute=True) if IS_STREAM[transport](head) else Meddling()
    findings = await examined(proxy.port, server.token(), SILENT)
    assert findings[f"{transport}-idle"].facts[0].startswith("found silently dead after ")
    assert findings[f"{transport}-idle"].flaws == ("idle_dead",)


async def test_a_heartbeat_that_is_due_does_not_come(proxy: Meddler, server: RunningServer) -> None:
    """Noticed long before the silence was to end."""
    limits = replace(LIMITS, heartbeat_interval_s=0.6)
    async with running_server(settings_for(limits=limits)) as beating, meddler(beating.port) as between:
        between.rule = lambda head: Meddling(idle_s=0.4, idle_mute=True) if is_event_stream(head) else Meddling()
        pace = replace(SILENT, idle_s=60.0)
        endpoint = Endpoint(f"http://127.0.0.1:{between.port}")
        await endpoint.open()
        try:
            line = EventStreamLine(endpoint, beating.token(), pace.patience_s)
            try:
                async with asyncio.timeout(20):
                    finding = await hold_line(line, pace)
            finally:
                await line.close()
        finally:
            await endpoint.close()
    assert finding.flaws == ("idle_dead",)


@pytest.mark.slow
async def test_a_connection_may_only_grow_so_old() -> None:
    limits = replace(LIMITS, heartbeat_interval_s=0.3)
    async with running_server(settings_for(limits=limits)) as server, meddler(server.port) as proxy:
        proxy.rule = lambda head: Meddling(life_s=1.5) if IS_STREAM["websocket"](head) else Meddling()
        findings = await examined(proxy.port, server.token(), replace(SILENT, idle_s=3.0))
    assert findings["websocket-idle"].flaws == ("life_cut",)
    assert "after its beginning, though it was in use" in findings["websocket-idle"].facts[0]


# -- what hybrid will use


RULES: dict[str, Callable[[bytes], Meddling]] = {
    "websocket": lambda head: Meddling(),
    "sse": lambda head: upgrade_is_taken_out(head) if b"Upgrade: websocket" in head else Meddling(),
    "longpoll": lambda head: (
        Meddling(body="swallow")
        if b"Upgrade: websocket" in head
        else Meddling(body="keep")
        if is_event_stream(head)
        else Meddling()
    ),
}


@pytest.mark.parametrize("transport", ["websocket", "sse", pytest.param("longpoll", marks=pytest.mark.slow)])
async def test_the_client_uses_what_was_said(server: RunningServer, proxy: Meddler, transport: str) -> None:
    proxy.rule = RULES[transport]
    verdict = conclude((await examined(proxy.port, server.token())).values())
    async with asyncio.timeout(20), Client(f"http://127.0.0.1:{proxy.port}", server.token) as client:
        await client.subscribe("chat:lobby")
        assert client.transport == verdict.will_use == transport


# -- the command


async def hybrid_doctor(*arguments: str, token: str = "") -> tuple[int, list[str], str]:
    """The command's exit status, the lines of its output, and what it says beside them."""
    environment = {**os.environ, "HYBRID_TOKEN": token, "PYTHONPATH": str(ROOT)}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hybrid", "doctor", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        out, error = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode is not None
    assert not token or token.encode() not in out + error
    return running.returncode, out.decode().splitlines(), error.decode()


async def test_the_command_says_what_will_be_used(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: upgrade_is_taken_out(head) if b"Upgrade: websocket" in head else Meddling()
    url = f"http://127.0.0.1:{proxy.port}"
    status, lines, _ = await hybrid_doctor(url, "--idle", "1", token=server.token())
    assert status == 0
    told = "`Upgrade` is taken out on the way (Via: 1.1 office (squid/5.7))"
    assert lines[1] == f"websocket  fails: {told}"
    assert any(line.startswith("idle       sse: still there after ") for line in lines)
    assert lines[-1] == f"hybrid will use SSE here: WebSocket fails, {told}."


async def test_the_command_where_nobody_is() -> None:
    status, lines, _ = await hybrid_doctor(f"http://127.0.0.1:{free_port()}", token="x")
    assert status == 1
    assert lines[-1].startswith("hybrid cannot get through here: cannot be reached: ")


@pytest.mark.slow
async def test_the_command_as_json_tells_what_it_knows_when_it_is_interrupted(server: RunningServer) -> None:
    environment = {**os.environ, "HYBRID_TOKEN": server.token(), "PYTHONPATH": str(ROOT)}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hybrid", "doctor", server.url, "--idle", "600", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        assert running.stderr is not None
        while not (await running.stderr.readline()).startswith(b"holding connections open"):
            assert not running.stderr.at_eof()
        running.send_signal(signal.SIGINT)
        out, error = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 130
    assert b"Traceback" not in error
    told = json.loads(out)
    assert (told["will_use"], told["is_complete"], told["has_token"]) == ("websocket", False, True)
    assert {finding["name"] for finding in told["findings"]} == {"server", *TRANSPORTS}
    [beats] = [finding["figures"]["beats_ms"] for finding in told["findings"] if finding["name"] == "sse"]
    assert len(beats) == Pace().beats
    assert all(came_ms >= sent_ms for sent_ms, came_ms in beats)
