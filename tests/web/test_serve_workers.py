"""`hybrid serve` as an operator runs it: with workers and alone, under a service manager, reloaded, misconfigured."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.crew import PATIENCE_S, ROOT, children, take_terminal, told, until
from tests.support.redis_servers import RedisServer, redis_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
BAD_BROKER = "redis://127.0.0.1:99999/0"
SECRET = "a-secret-of-32-characters-or-more"


class Serving:
    """A `hybrid serve` that runs in a directory with its settings; what it says is in files there."""

    def __init__(self, directory: Path, *arguments: str, environment: dict[str, str] | None = None, **popen: object):
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "-m", "hybrid", "serve", "--port", "0", *arguments],
                cwd=directory,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(ROOT),
                    "PYTHONWARNINGS": "error::ResourceWarning",
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **popen,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def url(self) -> str:
        return self.out.split()[-1]

    def until_said(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.err) is not None, lambda: f"{pattern!r} in:\n{self.err}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(directory: Path, *arguments: str, **options: object) -> Iterator[Serving]:
    """Run it, and wait until it tells its URL."""
    server = Serving(directory, *arguments, **options)  # type: ignore[arg-type]
    try:
        until(lambda: "\n" in server.out or server.process.poll() is not None)
        assert "hybrid serves http" in server.out, server.err
        yield server
    finally:
        left = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        for pid in left:  # they end by themselves; that is tested elsewhere
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def redis() -> Iterator[RedisServer]:  # type: ignore[misc]
    async with redis_server() as server:
        yield server


def write_settings(directory: Path, redis: RedisServer, more: str = "") -> None:
    (directory / "hybrid.toml").write_text(f'broker = "{redis.url}"\nsecret = "{SECRET}"\nworkers = 2\n{more}')


def run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hybrid", "serve", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def get(url: str, token: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def new_token(url: str) -> str:
    form = b"grant_type=client_credentials&client_id=cli"
    with urllib.request.urlopen(f"{url}/dev-issuer/token", form, timeout=PATIENCE_S) as answer:
        return str(json.load(answer)["access_token"])


def open_stream_briefly(url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_S) as answer:
        assert answer.readline()


# -- with workers


async def test_workers_share_a_port_their_log_and_the_keys_of_tokens(tmp_path: Path, redis: RedisServer) -> None:
    write_settings(tmp_path, redis)
    with serving(tmp_path) as server:
        assert server.out.count("\n") == 1
        assert server.err.count("the development issuer is on") == 1
        token = new_token(server.url)
        for _ in range(20):  # whichever worker it reaches
            assert get(f"{server.url}/v1/history/chat:1", token) == 200
        open_stream_briefly(f"{server.url}/v1/channels/chat:1", token)
        server.until_said(r"INFO    worker [12] \(\d+\) hybrid\.access: ")
        workers = children(server.process.pid)
        for number, pid in enumerate(workers, 1):
            assert f"worker {number} ({pid}) is ready" in server.err
            os.kill(pid, signal.SIGTERM)  # so that each has a reason to be replaced
        until(lambda: server.err.count("was told to end, and not by its supervisor") == 2)
        assert server.end() == 0
        assert "Traceback" not in server.err


async def test_a_reload_takes_over_what_the_file_says_if_it_is_good(tmp_path: Path, redis: RedisServer) -> None:
    write_settings(tmp_path, redis)
    with serving(tmp_path) as server:
        workers = children(server.process.pid)
        path = f"{server.url}/v1/history/news:1"
        assert get(path) == 401
        write_settings(tmp_path, redis, "wrokers = 3")
        server.process.send_signal(signal.SIGHUP)
        server.until_said("reload refused, nothing was changed")
        assert "Did you mean workers?" in server.err
        assert children(server.process.pid) == workers
        write_settings(tmp_path, redis, 'host = "127.0.0.2"\n[namespaces.news]\nsubscribe = "anyone"')
        server.process.send_signal(signal.SIGHUP)
        server.until_said("reloaded 2 workers")
        assert "host stays 127.0.0.1 until the next restart; the settings say 127.0.0.2" in server.err
        assert not set(workers) & set(children(server.process.pid))
        assert [get(path) for _ in range(10)] == [200] * 10
        assert server.end() == 0


def test_workers_without_redis_are_one_line_and_2(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--workers", "2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "workers = 2 needs Redis" in err


def test_workers_with_a_taken_port_are_one_line_and_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        (tmp_path / "hybrid.toml").write_text(f'broker = "redis://127.0.0.1:1/0"\nsecret = "{SECRET}"')
        code, out, err = run(tmp_path, "--workers", "2", "--port", port)
    assert (code, out, err) == (2, "", f"hybrid: Cannot listen on 127.0.0.1:{port}: Address already in use.\n")


def test_what_every_worker_would_refuse_is_said_once(tmp_path: Path) -> None:
    """The supervisor finds the settings good: it does not load what would look into the broker's URL."""
    (tmp_path / "hybrid.toml").write_text(f'broker = "{BAD_BROKER}"\nsecret = "{SECRET}"\nworkers = 3')
    code, out, err = run(tmp_path, "--port", "0")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "a port from 1 to 65535" in err


def test_the_option_for_workers_is_for_nobody_else(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--worker", "1:0:0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--worker is for the supervisor" in err


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("port = 8000", 0),
        (f'broker = "{BAD_BROKER}"\nsecret = "{SECRET}"', 2),
    ],
)
def test_settings_can_be_checked_without_serving(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "hybrid.toml").write_text(text)
    found, out, err = run(tmp_path, "--check")
    assert found == code
    assert (out, err.count("\n")) == (("hybrid: the settings are good\n", 0) if code == 0 else ("", 1))


# -- alone


def test_one_process_tells_systemd_and_goes_on_when_asked_to_reload(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(name)
        notify.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}
        with serving(tmp_path, environment=environment) as server:
            assert told(notify) == [{"READY": "1", "STATUS": "Accepts connections"}]
            assert notify.recv(4096) == b"WATCHDOG=1"
            server.process.send_signal(signal.SIGHUP)
            reloading, ready = told(notify, 2)
            assert (reloading["RELOADING"], ready["READY"]) == ("1", "1")
            assert "a reload needs more than one worker" in ready["STATUS"]
            server.until_said("SIGHUP: one process cannot reload without an interruption")
            assert get(f"{server.url}/healthz") == 200
            server.process.send_signal(signal.SIGTERM)
            assert told(notify) == [{"STOPPING": "1", "STATUS": "Drains"}]
            assert server.process.wait(PATIENCE_S) == 0


def test_one_process_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """As it did before SIGHUP meant anything else."""
    ours, theirs = pty.openpty()
    try:
        with serving(tmp_path, preexec_fn=lambda: take_terminal(theirs), pass_fds=(theirs,)) as server:
            os.close(ours)
            assert server.process.wait(PATIENCE_S) == 0
    finally:
        os.close(theirs)


def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def prepare() -> None:
        take_terminal(theirs)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    try:
        with serving(tmp_path, preexec_fn=prepare, pass_fds=(theirs,)) as server:
            os.close(ours)
            server.until_said("SIGHUP: one process cannot reload")
            assert get(f"{server.url}/healthz") == 200
            assert server.end() == 0
    finally:
        os.close(theirs)
