"""`hybrid top` as a person and a script use it: real servers, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.crew import PATIENCE_S, ROOT
from tests.support.redis_servers import redis_server
from tests.web.test_serve_workers import SECRET, Serving, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="terminals and signals as Linux has them")
OPEN = 'namespaces.default = { subscribe = "anyone", publish = "anyone", allow_anonymous_publish = true }\n'


def environment(**more: str) -> dict[str, str]:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
    return {**given, "TERM": "xterm", **more}


def run(*arguments: str, **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hybrid", "top", *arguments],
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def token_for(url: str, scope: str) -> str:
    form = f"grant_type=client_credentials&client_id=cli&scope={scope.replace(' ', '+')}".encode()
    with urllib.request.urlopen(f"{url}/dev-issuer/token", form, timeout=PATIENCE_S) as answer:
        return str(json.load(answer)["access_token"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    directory = tmp_path_factory.mktemp("served")
    (directory / "hybrid.toml").write_text(f"metrics = true\n{OPEN}")
    with serving(directory) as made:
        yield made


@contextlib.contextmanager
def traffic(url: str, channel: str = "chat:top") -> Iterator[None]:
    """One who listens, and one who publishes as fast as it is answered."""
    over = threading.Event()

    def publish() -> None:
        address, headers = f"{url}/v1/channels/{channel}", {"Content-Type": "application/json"}
        while not over.is_set():
            urllib.request.urlopen(urllib.request.Request(address, b"1", headers), timeout=PATIENCE_S).close()

    events = urllib.request.Request(f"{url}/v1/channels/{channel}", headers={"Accept": "text/event-stream"})
    with urllib.request.urlopen(events, timeout=PATIENCE_S):
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE_S)


# -- for scripts


@pytest.fixture(scope="module")
def once(server: Serving) -> dict[str, tuple[int, str, str]]:
    """What is told at the same time, while somebody publishes and somebody listens."""
    few = token_for(server.url, "hybrid:metrics")
    asked: dict[str, Callable[[], tuple[int, str, str]]] = {
        "json": lambda: run(server.url, "--once", "--json"),
        "filtered": lambda: run("--once", "--filter", "other:", HYBRID_URL=server.url),
        "only metrics": lambda: run(server.url, "--once", HYBRID_TOKEN=few),
    }
    with traffic(server.url), ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(lambda ask: ask(), asked.values()), strict=True))


def test_once_as_json(once: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = once["json"]
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["clients"]["sse"] == 1
    assert told["publications_per_s"] > 0
    assert told["deliveries_per_s"] > 0
    assert told["bytes_per_s"] > told["deliveries_per_s"]
    for times in ("write_s", "publish_s"):
        assert told[times]["p99"] > 0, times
    assert told["lag_s"] > 0
    [worker] = told["workers"]
    assert worker["cpu"] > 0
    assert worker["memory_bytes"] > 10 << 20
    [channel] = [one for one in told["channels"] if one["name"] == "chat:top"]
    assert channel["subscribers"] == 1
    assert channel["publications_per_s"] > 0
    [node] = told["nodes"]
    assert node["streams"] == 1
    assert told["troubles"] == []


def test_once_for_people_and_only_some_channels(once: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = once["filtered"]
    assert (code, err) == (0, "")
    assert "chat:top" not in out
    assert "\x1b" not in out
    assert re.search(r"^clients +1 of ", out)
    assert re.search(r"^WORKER +CLIENTS", out, re.MULTILINE)
    assert re.search(r"^NODE +STREAMS", out, re.MULTILINE)


def test_where_there_is_no_terminal_it_prints_again_and_again(server: Serving) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hybrid", "top", server.url],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            seen = 0
            while seen < 2:
                line = process.stdout.readline()
                assert line
                assert "\x1b" not in line
                seen += line.startswith("clients")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "")


# -- what goes wrong


def test_nobody_there_is_one_line_and_2() -> None:
    code, out, err = run("http://127.0.0.1:1", "--once")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("hybrid: Cannot reach http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        *((200, b"<html>hello</html>", "not a hybrid server?"), (404, b"no", "HTTP 404, not a hybrid server?")),
        *((200, b"up 1\n", "not the metrics of a hybrid server"), (503, b"", "HTTP 503, not a hybrid server?")),
    ],
)
def test_another_program_is_one_line_and_2(status: int, body: bytes, why: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            code, out, err = run(f"http://127.0.0.1:{http.server_port}", "--once", HYBRID_TOKEN="abc.def")
        finally:
            http.shutdown()
            thread.join()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert why in err
    assert "abc.def" not in err


def test_a_token_without_the_scopes_is_one_line_and_1(server: Serving, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token_for(server.url, "hybrid:subscribe:a"))
    code, out, err = run(server.url, "--token-file", str(tmp_path / "token"))
    assert (code, out) == (1, "")
    assert err.endswith("does not tell its metrics: the token lacks the scope hybrid:metrics\n")


def test_a_token_that_is_not_accepted_is_one_line_and_1_and_is_not_told(server: Serving) -> None:
    code, out, err = run(server.url, "--once", HYBRID_TOKEN="not.a.token")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "not.a.token" not in err


def test_what_may_not_be_seen_is_left_out_with_the_reason(once: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = once["only metrics"]
    assert (code, err) == (0, "")
    assert "the token lacks the scope hybrid:nodes" in out
    assert "the token lacks the scope hybrid:channels:*" in out
    assert "NODE " not in out
    assert re.search(r"^WORKER ", out, re.MULTILINE)


def test_metrics_that_are_off_are_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        code, out, err = run(server.url, "http://127.0.0.1:1", "--once")
    assert (code, err) == (1, "")
    assert "set `metrics = true` there" in out
    assert "not reached  Cannot reach http://127.0.0.1:1" in out
    assert re.search(r"^NODE ", out, re.MULTILINE)


def test_too_many_servers_are_refused() -> None:
    code, out, err = run(*(f"http://127.0.0.1:{port}" for port in range(1, 52)))
    assert (code, out) == (2, "")
    assert "At most 50 servers" in err


async def test_workers_on_a_redis(tmp_path: Path) -> None:
    async with redis_server() as redis:
        settings = f'broker = "{redis.url}"\nsecret = "{SECRET}"\nworkers = 2\nmetrics = true\n{OPEN}'
        (tmp_path / "hybrid.toml").write_text(settings)
        with serving(tmp_path) as server:
            with traffic(server.url):
                code, out, err = run(server.url, "--json", "--once")
            assert (code, err) == (0, "")
            told = json.loads(out)
            assert sorted(one["name"].rpartition("/")[2] for one in told["workers"]) == ["1", "2"]
            assert (told["broker"], told["broker_down"], len(told["nodes"])) == ("redis", [], 2)
            assert told["broker_answer_s"] > 0
            await redis.stop()
            told = json.loads(run(server.url, "--json", "--once", "--channels", "0")[1])
            assert len(told["broker_down"]) == 2


# -- in a terminal


class Screen:
    """The command in a terminal of its own; `shown` is all that it has written there."""

    def __init__(self, *arguments: str, columns: int = 100, lines: int = 40, **more: str) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns, lines, is_told=False)
        self.before = termios.tcgetattr(self.slave)
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hybrid", "top", *arguments],
            env=environment(**more),
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, columns: int, lines: int, *, is_told: bool = True) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if is_told:
            self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def until(self, is_so: Callable[[str], object], since: int = 0) -> str:
        """Read until what was shown since then is so."""
        end = time.monotonic() + PATIENCE_S
        while not is_so(self.shown[since:]):
            assert time.monotonic() < end, self.shown[since:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += os.read(self.master, 65_536).decode("utf-8", "replace")
        return self.shown[since:]

    def drawn(self, pattern: str) -> str:
        """The next whole picture that has this."""
        found: list[str] = []

        def has_it(text: str) -> bool:
            pictures = [picture for picture in text.split("\x1b[H")[1:] if "\x1b[J" in picture]
            found[:] = [picture for picture in pictures if re.search(pattern, picture)]
            return bool(found)

        self.until(has_it, len(self.shown))
        return found[-1]

    def ended(self) -> int:
        self.until(lambda text: "\x1b[?1049l" in text)
        code = self.process.wait(PATIENCE_S)
        assert self.shown.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l"), "the cursor and the former screen are back"
        assert termios.tcgetattr(self.slave) == self.before
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def screen(*arguments: str, **more: object) -> Iterator[Screen]:
    made = Screen(*arguments, **more)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def test_it_watches_obeys_keys_and_gives_the_terminal_back(server: Serving) -> None:
    with traffic(server.url), screen(server.url) as shown:
        shown.drawn(r"chat:top +1 +[1-9]")
        assert termios.tcgetattr(shown.slave)[3] & termios.ECHO == 0
        shown.press("s")
        shown.drawn("by publications")
        shown.press("\x1b[A")  # an arrow means nothing, nor do its letters
        shown.press("r")
        shown.drawn("reversed")
        shown.press("/zzz")
        shown.drawn("begin with: zzz_")
        shown.press("\r")
        assert "chat:top" not in shown.drawn(r"channels zzz\*(?s:(?!chat:top).)*NODE")
        shown.press("q")
        assert shown.ended() == 0


def test_a_resized_terminal_is_filled_anew(server: Serving) -> None:
    with screen(server.url, columns=120, lines=40) as shown:
        shown.drawn("MEMORY")
        shown.resize(40, 16)
        picture = shown.drawn(r"WORKER(?s:(?!MEMORY).)*\x1b\[J")
        lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", picture).split("\n")
        assert len(lines) <= 16
        assert max(map(len, lines)) <= 40
        shown.press("q")
        assert shown.ended() == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda shown: shown.press("\x03"), 130),
        (lambda shown: shown.process.send_signal(signal.SIGTERM), 143),
        (lambda shown: shown.process.send_signal(signal.SIGHUP), 129),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_however_it_ends_the_terminal_is_as_before(end: Callable[[Screen], None], code: int, server: Serving) -> None:
    with screen(server.url) as shown:
        shown.drawn("WORKER")
        end(shown)
        assert shown.ended() == code


def test_whoever_stops_it_has_the_terminal_meanwhile(server: Serving) -> None:
    with screen(server.url) as shown:
        shown.drawn("WORKER")
        shown.press("\x1a")
        shown.until(lambda text: "\x1b[?1049l" in text)
        os.waitid(os.P_PID, shown.process.pid, os.WSTOPPED | os.WNOWAIT)
        assert termios.tcgetattr(shown.slave) == shown.before
        since = len(shown.shown)
        shown.process.send_signal(signal.SIGCONT)
        shown.until(lambda text: "\x1b[?1049h" in text and "WORKER" in text, since)
        shown.press("q")
        shown.until(lambda text: text.count("\x1b[?1049l") == 2)
        assert shown.ended() == 0


def test_without_colour_where_that_is_wanted(server: Serving) -> None:
    with screen(server.url, NO_COLOR="1") as shown:
        assert re.findall(r"\x1b\[[0-9;]*m", shown.drawn("WORKER")) == []
        shown.press("q")
        assert shown.ended() == 0


def test_a_dumb_terminal_gets_lines(server: Serving) -> None:
    with screen(server.url, TERM="dumb") as shown:
        shown.until(lambda text: "WORKER" in text)
        assert "\x1b" not in shown.shown
        shown.press("\x03")
        assert shown.process.wait(PATIENCE_S) == 130


@pytest.mark.slow
def test_a_server_that_goes_away_is_said_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text("metrics = true\n")
    with serving(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        with screen(first.url) as shown:
            shown.drawn("serving")
            first.end()
            shown.drawn("Cannot reach")
            (tmp_path / "again").mkdir()
            (tmp_path / "again" / "hybrid.toml").write_text("metrics = true\n")
            with serving(tmp_path / "again", "--port", port):
                shown.drawn("serving")
                shown.press("q")
                assert shown.ended() == 0


def test_keys_are_heard_while_a_server_does_not_answer(server: Serving) -> None:
    with screen(server.url) as shown:
        shown.drawn("WORKER")
        server.process.send_signal(signal.SIGSTOP)
        try:
            shown.press("s")
            shown.drawn("by publications")
            shown.press("r")
            shown.drawn("reversed")
            shown.press("q")
            assert shown.ended() == 0
        finally:
            server.process.send_signal(signal.SIGCONT)
