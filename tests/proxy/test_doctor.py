"""`hybrid doctor` behind proxies that meddle: it names what each does, and what is left to use."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from hybrid.client import doctor
from hybrid.client.doctor import Finding, examine
from hybrid.client.endpoint import Endpoint
from tests.support.meddler import Meddler, Meddling, meddler
from tests.support.nodes import ROOT
from tests.support.processes import free_port
from tests.support.server import RunningServer, running_server, settings_for

PATIENCE_S = 1.0
WAIT_S = 0.5


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "WAIT_S", WAIT_S)
    monkeypatch.setattr(doctor, "HELD_S", 0.3)


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for()) as running:
        yield running


@pytest.fixture
async def proxy(server: RunningServer) -> AsyncIterator[Meddler]:
    async with meddler(server.port) as running:
        yield running


async def examined(port: int, token: str | None) -> dict[str, Finding]:
    endpoint = Endpoint(f"http://127.0.0.1:{port}")
    await endpoint.open()
    try:
        return {found.name: found for found in await examine(endpoint, token, patience_s=PATIENCE_S)}
    finally:
        await endpoint.close()


def works(findings: dict[str, Finding]) -> list[str]:
    return [name for name, finding in findings.items() if finding.works]


async def test_where_nothing_is_in_between_all_works(server: RunningServer) -> None:
    findings = await examined(server.port, server.token())
    assert works(findings) == ["server", "websocket", "sse", "longpoll"]
    assert re.fullmatch(r"open after \d+ ms, a command answered in \d+ ms", findings["websocket"].facts[0])
    assert re.fullmatch(r"first event after \d+ ms", findings["sse"].facts[0])
    assert re.fullmatch(r"answered in \d+ ms, a poll of 0.5 s after 0.[5-9] s", findings["longpoll"].facts[0])
    assert all(len(finding.facts) == 1 for finding in findings.values())


async def test_without_a_token_the_server_is_heard_refusing(server: RunningServer) -> None:
    findings = await examined(server.port, None)
    assert works(findings) == ["server", "websocket", "sse", "longpoll"]
    assert findings["websocket"].facts == ("the server is heard, and wants a token",)
    assert all("wants a token; whether" in findings[name].facts[0] for name in ("sse", "longpoll"))


async def test_a_refused_token_is_the_servers_word_and_not_the_networks(server: RunningServer) -> None:
    findings = await examined(server.port, "nonsense")
    assert all("the server is heard, and refuses: " in findings[n].facts[0] for n in ("websocket", "sse", "longpoll"))


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


def is_event_stream(head: bytes) -> bool:
    return b"text/event-stream" in head


async def test_bodies_are_kept_until_they_are_whole(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body="keep") if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "longpoll"]
    assert findings["sse"].facts == ("no answer within 1 s: held back until it would be whole",)


async def test_the_body_of_a_stream_is_swallowed(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body="swallow") if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert works(findings) == ["server", "websocket", "longpoll"]
    assert re.fullmatch(
        r"the head came after \d+ ms and nothing behind it: the body is held back on the way", findings["sse"].facts[0]
    )


async def test_a_body_that_is_held_back_for_a_while_is_told(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: Meddling(body_after_s=0.5) if is_event_stream(head) else Meddling()
    findings = await examined(proxy.port, server.token())
    assert findings["sse"].works
    assert re.fullmatch(r"the body was held back for 0.[5-9] s", findings["sse"].facts[1])


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
        r"a poll that waits is cut after 0.[2-4] s with HTTP 504; shorter ones are used then",
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


# -- the command


async def test_the_command_says_what_will_be_used(server: RunningServer, proxy: Meddler) -> None:
    proxy.rule = lambda head: upgrade_is_taken_out(head) if b"Upgrade: websocket" in head else Meddling()
    environment = {**os.environ, "HYBRID_TOKEN": server.token(), "PYTHONPATH": str(ROOT)}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hybrid", "doctor", f"http://127.0.0.1:{proxy.port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, error = await running.communicate()
    assert running.returncode == 0, error
    lines = out.decode().splitlines()
    assert lines[1] == "websocket  fails: `Upgrade` is taken out on the way (Via: 1.1 office (squid/5.7))"
    assert lines[-1] == "hybrid will use sse here, or else longpoll."
    assert server.token().encode() not in out + error
