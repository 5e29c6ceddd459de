"""The listening socket, and an end that comes in bounded time whatever is open."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Literal

import pytest

from hybrid.errors import SettingsError
from hybrid.limits import Limits
from hybrid.links.hypercorn import find_transport
from hybrid.web import launcher
from tests.support.asgi_server import (
    PATIENCE_S,
    Kind,
    LinkApp,
    RawClient,
    connected,
    on_each_loop,
    opened_stream,
    opened_websocket,
    serving,
    true_soon,
)

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
BRIEF = Limits(shutdown_grace_s=0.3)


class PlainApp:
    """Answers every request with 204, after `wait` if there is one; remembers its life."""

    def __init__(self, wait: asyncio.Event | None = None) -> None:
        self.wait = wait
        self.life: list[str] = []
        self.requested = asyncio.Event()
        self.transports: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                self.life.append(stage)
                await send({"type": f"lifespan.{stage}.complete"})
            return
        self.transports.append(find_transport(send))
        self.requested.set()
        if self.wait is not None:
            await self.wait.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


# -- the socket


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
@on_each_loop
async def test_port_0_takes_a_free_port_and_tells_it(host: str, family: int) -> None:
    async with serving(PlainApp(), host=host) as server:
        assert server.port > 0
        reader, writer = await asyncio.open_connection(host, server.port, family=family)
        client = RawClient(reader, writer)
        await client.send(GET)
        status, headers = await client.head()
        assert status.startswith(b"HTTP/1.1 204")
        assert b"server" not in headers
        writer.transport.abort()


@pytest.mark.parametrize(("host", "reached_at"), [("localhost", "127.0.0.1"), ("[::1]", "::1"), ("::", "127.0.0.1")])
@on_each_loop
async def test_hosts_as_people_write_them(host: str, reached_at: str) -> None:
    async with serving(PlainApp(), host=host) as server:
        _, writer = await asyncio.open_connection(reached_at, server.port)
        writer.transport.abort()


@on_each_loop
async def test_a_taken_port_is_one_line_for_a_person() -> None:
    async with serving(PlainApp()) as server:
        with pytest.raises(SettingsError) as caught:
            await start(port=server.port)
        assert str(caught.value) == f"Cannot listen on 127.0.0.1:{server.port}: Address already in use."


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 65_536), ("127.0.0.1", -1), ("192.0.2.1", 0), ("no such host", 0), ("a" * 70, 0)]
)
@on_each_loop
async def test_an_address_that_cannot_be_had_is_one_line_for_a_person(host: str, port: int) -> None:
    with pytest.raises(SettingsError) as caught:
        await start(host=host, port=port)
    assert host in str(caught.value)
    assert "\n" not in str(caught.value)


async def start(host: str = "127.0.0.1", port: int = 0) -> None:
    await launcher.serve(PlainApp(), host=host, port=port, limits=BRIEF, shutdown_event=asyncio.Event())


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
@on_each_loop
async def test_accepted_sockets_inherit_what_bounds_a_silent_peer() -> None:
    app = PlainApp()
    async with serving(app, send_buffer_bytes=65_536) as server, connected(server.port, GET) as client:
        await client.head()
        accepted = app.transports[0].get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65_536  # Linux doubles it


@on_each_loop
async def test_an_application_that_cannot_start_leaves_no_socket_behind() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no broker"})

    before = open_descriptors()
    with pytest.raises(Exception, match="no broker"):
        async with serving(broken):
            pass
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- the end


@on_each_loop
async def test_drain_is_given_the_grace_and_runs_while_connections_live() -> None:
    app = LinkApp("hand-off")
    told: list[float] = []

    async def drain(grace_s: float) -> None:
        told.append(grace_s)
        opened.link.write(opened.link.framing([b"data: bye\n\n"]))
        opened.link.close(1012)
        client.writer.write_eof()
        await opened.owner.until("closed")

    async with serving(app, limits=Limits(shutdown_grace_s=30), drain=drain) as server:
        async with opened_stream(app, server.port) as (client, opened):
            await server.stop()
            assert await client.rest() == b"b\r\ndata: bye\n\n\r\n0\r\n\r\n"
            assert opened.owner.of("closed") == [(1012, "")]
    assert told == [30]


@pytest.mark.parametrize("kind", ["hand-off", "asgi"])
@on_each_loop
async def test_what_nobody_drained_is_aborted_at_the_deadline(kind: Kind) -> None:
    """asyncio from 3.12.1 on never leaves with a connection open, and Hypercorn's own timeout comes after that."""
    app = LinkApp(kind)
    async with serving(app, limits=BRIEF) as server:
        async with opened_websocket(app, server.port) as (_, socket_link):
            async with opened_stream(app, server.port) as (_, stream_link):
                await server.stop()
                assert await socket_link.owner.until("closed") == (1006, "")
                assert (await stream_link.owner.until("closed"))[0] in (1005, 1006)


@pytest.mark.parametrize("prefix", [b"/", None])
@on_each_loop
async def test_links_of_an_application_that_aborts_them_itself_are_not_remembered(prefix: bytes | None) -> None:
    app = LinkApp("hand-off")
    links: list[Any] = []

    def abort_links() -> int:
        for link in links:
            link.abort()
        return len(links)

    async with serving(app, limits=BRIEF, abort_links=abort_links, streams_under=prefix) as server:
        async with (
            opened_websocket(app, server.port) as (client, opened),
            opened_stream(app, server.port) as (_, other),
        ):
            links += [opened.link, other.link]
            await server.stop()
            for ended in (opened, other):
                assert await ended.owner.until("closed") == (1006, "")
            assert await client.rest() == b""


@on_each_loop
async def test_a_link_that_its_client_does_not_read_cannot_hold_the_end_up() -> None:
    app = LinkApp("asgi")
    async with serving(app, limits=BRIEF) as server, opened_stream(app, server.port) as (client, opened):
        client.writer.transport.pause_reading()
        while not opened.owner.of("paused"):
            opened.link.write(opened.link.framing([b"x" * 10_000]))
            await asyncio.sleep(0)
        await server.stop()
        await opened.owner.until("closed")


@on_each_loop
async def test_a_request_that_never_ends_cannot_hold_the_end_up() -> None:
    app = PlainApp(wait=asyncio.Event())
    async with serving(app, limits=BRIEF) as server, connected(server.port, GET) as client:
        await app.requested.wait()
        await server.stop()
        assert await client.rest() == b""
    assert app.life == ["startup", "shutdown"]


@on_each_loop
async def test_a_request_in_progress_may_finish_within_the_grace() -> None:
    app = PlainApp(wait=asyncio.Event())
    assert app.wait is not None
    async with serving(app, limits=Limits(shutdown_grace_s=5)) as server, connected(server.port, GET) as client:
        await app.requested.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        app.wait.set()
        status, _ = await client.head()
        assert status.startswith(b"HTTP/1.1 204")
        await stopping


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET])
@on_each_loop
async def test_idle_connections_do_not_wait_for_the_deadline(sent: bytes) -> None:
    started_s = time.monotonic()
    async with serving(PlainApp(), limits=Limits(shutdown_grace_s=60)) as server:
        async with connected(server.port, sent) as client:
            if sent == GET:
                await client.head()
            await server.stop()
    assert time.monotonic() - started_s < PATIENCE_S


@on_each_loop
async def test_a_drain_that_hangs_is_cancelled_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    was_cancelled = False

    async def drain(grace_s: float) -> None:
        nonlocal was_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled = True
            raise

    app = PlainApp()
    async with serving(app, limits=BRIEF, drain=drain):
        pass
    assert was_cancelled
    assert app.life == ["startup", "shutdown"]
    assert "draining took longer than 0.3 s" in caplog.text


@on_each_loop
async def test_a_drain_that_fails_is_logged_and_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def drain(grace_s: float) -> None:
        raise ValueError("a bug in draining")

    app = PlainApp()
    async with serving(app, limits=BRIEF, drain=drain):
        pass
    assert app.life == ["startup", "shutdown"]
    assert "a bug in draining" in caplog.text


@on_each_loop
async def test_cancelling_aborts_what_is_open() -> None:
    app = LinkApp("hand-off")
    async with serving(app, limits=BRIEF) as server, opened_stream(app, server.port) as (client, opened):
        server.task.cancel()
        await asyncio.wait({server.task})
        assert server.task.cancelled()
        assert await opened.owner.until("closed") == (1006, "")
        assert await client.rest() == b""
        server.task = asyncio.create_task(asyncio.sleep(0))  # nothing is left to stop


# -- leaving a socket that others hold too


@on_each_loop
async def test_who_leaves_stops_accepting_and_answers_those_it_has() -> None:
    """A worker that is renewed: one client has just connected, one is idle, one waits; the next one is not its own."""
    app = PlainApp()
    with launcher.bind("127.0.0.1", 0) as held:
        listener = held.dup()
        async with serving(app, listener=listener, limits=Limits(shutdown_grace_s=3)) as server:
            async with connected(server.port) as fresh, connected(server.port, GET) as idle:
                await idle.head()
                app.wait = asyncio.Event()
                app.requested.clear()
                async with connected(server.port, GET) as waiting:
                    await app.requested.wait()
                    stopping = asyncio.create_task(server.stop())
                    await true_soon(lambda: listener.fileno() == -1)
                    late = await asyncio.open_connection("127.0.0.1", server.port)
                    app.wait.set()
                    for client in (fresh, idle):
                        await client.send(GET)
                    for client in (fresh, idle, waiting):
                        status, headers = await client.head()
                        assert status.startswith(b"HTTP/1.1 204")
                        assert headers[b"connection"] == b"close"
                        assert await client.rest() == b""
                    assert not stopping.done(), "it serves on for a moment"
                    await stopping
        with held.accept()[0] as accepted:
            assert accepted.getpeername() == late[1].get_extra_info("sockname")
        late[1].transport.abort()


@pytest.mark.parametrize("turns", range(4))
@on_each_loop
async def test_who_connects_while_a_server_leaves_is_served_by_it_or_left_to_the_next(turns: int) -> None:
    """Whichever turn of the loop it is: asyncio accepts in one, and makes a connection of what it has in the next."""
    with launcher.bind("127.0.0.1", 0) as held, socket.socket() as client:
        listener = held.dup()
        async with serving(PlainApp(), listener=listener, limits=Limits(shutdown_grace_s=3)) as server:
            client.connect(("127.0.0.1", server.port))  # blocks, and so happens between two turns
            for _ in range(turns):
                await asyncio.sleep(0)
            server.shutdown_event.set()
            await true_soon(lambda: listener.fileno() == -1)
            client.sendall(GET)
            await server.stop()
        try:
            with held.accept()[0] as left_behind:
                assert left_behind.recv(1_024) == GET
        except BlockingIOError:  # nobody waits: this one was accepted
            client.settimeout(PATIENCE_S)
            assert client.recv(1_024).startswith(b"HTTP/1.1 204")


@on_each_loop
async def test_the_moment_in_which_a_leaving_server_serves_on_is_part_of_the_grace() -> None:
    told: list[float] = []

    async def drain(grace_s: float) -> None:
        told.append(grace_s)

    for grace_s, left_s in ((0.2, 0.14), (10.0, 9.0)):
        with launcher.bind("127.0.0.1", 0) as held:
            async with serving(PlainApp(), listener=held.dup(), limits=Limits(shutdown_grace_s=grace_s), drain=drain):
                pass
        assert told.pop() == pytest.approx(left_s)


@pytest.mark.skipif(sys.platform != "linux", reason="epoll")
@on_each_loop
async def test_a_socket_that_was_left_does_not_keep_the_loop_busy() -> None:
    """epoll goes on reporting a descriptor that was closed but not taken out, while another process has the socket."""

    used_s: list[float] = []

    async def drain(grace_s: float) -> None:
        began_s = time.process_time()
        await asyncio.sleep(0.3)
        used_s.append(time.process_time() - began_s)

    with launcher.bind("127.0.0.1", 0) as held:
        listener = held.dup()
        async with serving(PlainApp(), listener=listener, limits=Limits(shutdown_grace_s=3), drain=drain) as server:
            stopping = asyncio.create_task(server.stop())
            await true_soon(lambda: listener.fileno() == -1)
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)  # readable for as long as it waits
            await stopping
            writer.transport.abort()
    assert used_s[0] < 0.15


# -- what Hypercorn would keep


@on_each_loop
async def test_a_connection_serves_one_request_after_another() -> None:
    async with serving(PlainApp()) as server, connected(server.port) as client:
        for _ in range(3):
            await client.send(GET)
            status, _ = await client.head()
            assert status.startswith(b"HTTP/1.1 204")


@on_each_loop
async def test_a_body_that_the_application_never_read_does_not_keep_its_connection() -> None:
    """Hypercorn's reading task waited for ever for room in a queue that nobody empties any more."""
    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(PlainApp()) as server:
        before = len(asyncio.all_tasks())
        async with connected(server.port, head + b"1\r\nx\r\n" * 100) as client:
            status, _ = await client.head()
            assert status.startswith(b"HTTP/1.1 204")
            assert await client.rest() == b""
            await true_soon(lambda: len(asyncio.all_tasks()) == before)


@on_each_loop
async def test_an_idle_connection_ends_with_its_client_not_with_the_idle_timeout() -> None:
    async with serving(PlainApp()) as server:
        before = len(asyncio.all_tasks())
        async with connected(server.port, GET) as client:
            await client.head()
            client.writer.write_eof()
            assert await client.rest() == b""
            await true_soon(lambda: len(asyncio.all_tasks()) == before)


# -- loop and signals


@pytest.mark.parametrize(("name", "module"), [("asyncio", "asyncio"), ("uvloop", "uvloop"), ("auto", "uvloop")])
def test_run_takes_the_loop_asked_for(name: Literal["asyncio", "uvloop", "auto"], module: str) -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert launcher.run(main, name) == module


def test_run_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert launcher.run(main, "auto") == "asyncio"
    with pytest.raises(SettingsError, match="uvloop is not installed"):
        launcher.run(main, "uvloop")


SIGNAL_PROGRAM = """
import asyncio, sys
from hybrid.web import launcher

async def main():
    event = asyncio.Event()
    launcher.install_signal_handlers(event)
    print("ready", flush=True)
    await event.wait()
    print("asked to stop", flush=True)
    if sys.argv[2] == "stuck":
        await asyncio.Event().wait()

launcher.run(main, sys.argv[1])
"""


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(loop_name: str, number: signal.Signals) -> None:
    for temper, status in (("polite", 0), ("stuck", 128 + number)):
        with subprocess.Popen(
            [sys.executable, "-c", SIGNAL_PROGRAM, loop_name, temper], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == b"asked to stop\n"
            if temper == "stuck":
                process.send_signal(number)
            assert process.wait(PATIENCE_S) == status


@on_each_loop
async def test_nothing_of_a_request_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Hypercorn's access log decodes the path, so that `%0a` in it forges a line; and queries carry tickets."""
    with caplog.at_level(logging.DEBUG):
        async with serving(PlainApp()) as server, connected(server.port) as client:
            await client.send(GET.replace(b"/ ", b"/%0aforged?ticket=secret ", 1))
            await client.head()
    assert "forged" not in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "given", "is_told"),
    [
        (200, 4_000, 3_000, 3_000, False),
        (200, 1_000, 3_000, 1_000, True),
        (3_500, 4_000, 3_000, 3_500, False),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_it_may(
    soft: int, hard: int, wanted: int, given: int, is_told: bool
) -> None:
    script = (
        "import logging, resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); logging.basicConfig()\n"
        f"from hybrid.web.launcher import raise_file_limit; raise_file_limit({wanted})\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(told.stdout) == given
    assert ("links_max" in told.stderr) is is_told
