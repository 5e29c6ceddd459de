"""The animals of the zoo do what they are said to do: shown with an honest server and a client that knows nothing."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h2.connection
import h2.events
import h2.settings
import httpx2
import psutil
import pytest

from tests.proxy.zoo.animals import ANIMALS, Absent, Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import daemon
from tests.proxy.zoo.honest import Honest, honest
from tests.proxy.zoo.visitor import Refused, conversation
from tests.support.processes import free_port

_HANG_S: Final = 3.0
"""Nothing came for so long, where an answer takes milliseconds and the next event 0.3 s."""
_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a visitor finds behind an animal.

    `socket`: "open", or the status that came for 101, or "hang" (nothing came), "mute" (101 and nothing else), "deaf"
    (what comes down passes, what goes up does not). `naive` and `careful` are the streams of those names: "streams", or
    "held" where the first event came when the last was sent already; with "gzip" where that was added.
    `poll`: the status after 2 s. `tunnel`: for proxies and http://, which browsers ask for a tunnel when they open
    ws://, the status for CONNECT.
    """

    socket: str
    naive: str = "streams"
    poll: int = 200
    careful: str = ""
    tunnel: int = 0

    def __post_init__(self) -> None:
        if not self.careful:
            object.__setattr__(self, "careful", self.naive)


SEEN: Final = {
    "squid-default": Seen("426", tunnel=403),
    "squid-upgrade": Seen("open", tunnel=403),
    "squid-connect": Seen("open"),
    "squid-bump": Seen("426"),
    "tinyproxy": Seen("426", tunnel=403),
    "tinyproxy-connect": Seen("open"),
    "privoxy-plain": Seen("deaf", tunnel=200),
    "privoxy-filter": Seen("hang", "held", tunnel=200),
    "privoxy-1.0": Seen("deaf", tunnel=200),
    "apache-fwd": Seen("426", poll=502, tunnel=403),
    "e2guardian": Seen("426", "held", tunnel=200),
    "e2guardian-intercepted": Seen("426", "held"),
    "mitmproxy": Seen("open", "held", tunnel=200),
    "mitmproxy-streams": Seen("open", tunnel=200),
    "mitmproxy-mute": Seen("mute", "held", tunnel=200),
    "mitmproxy-intercepted": Seen("open", "held"),
    "mitmproxy-mute-intercepted": Seen("mute", "held"),
    "nginx-default": Seen("426", "held", careful="streams"),
    "nginx-hold": Seen("426", "held"),
    "nginx-1.1-buffered": Seen("426"),
    "nginx-504": Seen("426", "held", 504, careful="streams"),
    "nginx-gzip": Seen("426", "held gzip", careful="streams gzip"),
    "haproxy": Seen("open"),
    "haproxy-strip": Seen("426"),
    "haproxy-403": Seen("403"),
    "haproxy-blackhole": Seen("hang"),
    "haproxy-1s": Seen("open", poll=504),
    "haproxy-gzip": Seen("open", "streams gzip", careful="streams"),
    "varnish-default": Seen("426"),
    "varnish-hold": Seen("426", "held"),
    "apache-rev": Seen("426"),
    "caddy": Seen("open"),
    "caddy-tls": Seen("open"),
    "nghttpx": Seen("open"),
    "trafficserver": Seen("404"),
    "trafficserver-ws": Seen("open"),
    "hybrid-nginx": Seen("open"),
    "hybrid-nginx-tls": Seen("open"),
}


@asynccontextmanager
async def released(name: str, folder: Path) -> AsyncIterator[tuple[Honest, Route]]:
    animal = ANIMALS[name]
    if absent := animal.missing():
        pytest.skip(f"needs {', '.join(absent)}, which was not found")
    scratch = folder / "scratch"
    scratch.mkdir()
    async with asyncio.timeout(_LIMIT_S), honest(folder / "origin") as (server, origin):
        try:
            async with animal.release(origin, scratch) as route:
                yield server, route
        except Absent as error:
            pytest.skip(str(error))


async def try_socket(route: Route) -> str:
    async with conversation(route) as talk:
        try:
            async with asyncio.timeout(_HANG_S):
                head = await talk.upgrade("/v1/ws")
        except TimeoutError:
            return "hang"
        if head.status != 101:
            return str(head.status)
        was = "mute"
        try:
            async with asyncio.timeout(_HANG_S):
                await talk.say(b"hello")
                while await talk.hear() != b"echo hello":
                    was = "deaf"
        except TimeoutError:
            return was
        return "open"


async def try_stream(server: Honest, route: Route, path: str) -> str:
    server.sent_all.clear()
    async with conversation(route) as talk:
        head = await talk.ask("GET", path, "Accept: text/event-stream", "Accept-Encoding: gzip")
        assert head.status == 200
        text, how = b"", ""
        async for piece in talk.pieces(head):
            text += piece
            if not how and b"data: 0" in text:
                how = "held" if server.sent_all.is_set() else "streams"
            if text.count(b"\n\n") == server.events:
                break
        assert text.count(b"data: ") == server.events
        return " ".join([how, *filter(None, [head.headers.get("content-encoding")])])


async def try_poll(route: Route) -> int:
    async with conversation(route) as talk:
        return (await talk.ask("GET", "/v1/poll")).status


async def try_tunnel(route: Route) -> int:
    if route.proxy is None or route.url.startswith("https:"):
        return 0
    try:
        async with conversation(route, in_tunnel=True):
            return 200
    except Refused as refusal:
        return refusal.status


def test_every_animal_that_is_a_proxy_is_shown() -> None:
    assert set(SEEN) == {name for name in ANIMALS if not name.startswith("chaos-") and name != "packet-loss"}


@pytest.mark.zoo
@pytest.mark.parametrize("name", SEEN)
async def test_it_does_what_it_says(name: str, tmp_path: Path) -> None:
    async with released(name, tmp_path) as (server, route):
        socket, naive, poll, tunnel = await asyncio.gather(
            try_socket(route), try_stream(server, route, "/v1/events"), try_poll(route), try_tunnel(route)
        )
        careful = await try_stream(server, route, "/v1/events/careful")
        assert Seen(socket, naive, poll, careful, tunnel) == SEEN[name]


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("squid-default", "Via: 1.1 zoo (squid"),
        ("tinyproxy", "Connection: close"),
        ("privoxy-1.0", " HTTP/1.0\r\n"),
        ("apache-fwd", " HTTP/1.0\r\n"),
        ("nginx-default", " HTTP/1.0\r\n"),
    ],
)
async def test_what_the_origin_hears_of_it(name: str, said: str, tmp_path: Path) -> None:
    async with released(name, tmp_path) as (server, route), conversation(route) as talk:
        assert (await talk.ask("POST", "/v1/command")).status == 200
        (command,) = [head for head in server.heads if "/v1/command" in head]
        assert said in command


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "has_websockets"), [("nghttpx", True), ("caddy-tls", False), ("hybrid-nginx-tls", False)]
)
async def test_it_speaks_http2_to_browsers(name: str, has_websockets: bool, tmp_path: Path) -> None:
    async with released(name, tmp_path) as (server, route):
        assert await _offers_websockets_over_http2(route) is has_websockets
        context = ssl.create_default_context(cafile=route.ca)
        async with httpx2.AsyncClient(http2=True, verify=context, trust_env=False) as client:
            async with client.stream("GET", f"{route.url}/v1/events/careful") as answer:
                assert answer.http_version == "HTTP/2"
                assert b"data: 0" in await anext(aiter(answer.aiter_bytes()))
                assert not server.sent_all.is_set()


async def _offers_websockets_over_http2(route: Route) -> bool:
    """Whether SETTINGS_ENABLE_CONNECT_PROTOCOL comes first (RFC 8441)."""
    aim = urlsplit(route.url)
    context = ssl.create_default_context(cafile=route.ca)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(aim.hostname, aim.port, ssl=context)
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    try:
        while True:
            for event in connection.receive_data(await reader.read(65_536)):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
                    return code in event.changed_settings and event.changed_settings[code].new_value == 1
    finally:
        writer.transport.abort()


@pytest.mark.zoo
async def test_packets_are_lost_and_bytes_are_not(tmp_path: Path) -> None:
    before = _namespaces()
    async with released("packet-loss", tmp_path) as (server, route):
        server.large = 500_000
        async with conversation(route) as talk:
            assert len(await talk.body(await talk.ask("GET", "/v1/large"))) == 500_000
        (made,) = _namespaces() - before
        rules = _told("ip", "netns", "exec", made, "nft", "list", "ruleset")
        assert rules.count("counter packets ") == 2
        assert "counter packets 0 " not in rules  # some were dropped each way
    assert made not in _namespaces()


def _namespaces() -> set[str]:
    try:
        return {line.split()[0] for line in _told("ip", "netns", "list").splitlines()}
    except OSError:
        return set()


def _told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- how they live


async def test_one_that_dies_early_tells_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a fault in the configuration"):
        async with daemon("dead", ["sh", "-c", "echo a fault in the configuration; exit 3"], tmp_path, free_port()):
            pass


async def test_all_that_it_has_started_ends_with_it(tmp_path: Path) -> None:
    port = free_port()
    serve = f"import http.server as s; s.HTTPServer(('127.0.0.1', {port}), s.BaseHTTPRequestHandler).serve_forever()"
    arguments = ["sh", "-c", f'sleep 1000 & echo $! >child; exec python3 -c "{serve}"']
    async with daemon("parent", arguments, tmp_path, port) as running:
        child = psutil.Process(int((tmp_path / "child").read_text()))
        parent = psutil.Process(running.pid)
        assert child.is_running()
    psutil.wait_procs([child], timeout=5)
    assert not parent.is_running()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_what_is_not_installed_is_named() -> None:
    def never(origin: Origin, scratch: Path) -> object:
        raise AssertionError("it was released")

    animal = Animal("unicorn", "Does not exist.", ("sh", "no-such-proxy"), never)  # type: ignore[arg-type]
    assert animal.missing() == ("no-such-proxy",)
