"""The `hybrid` command as a person uses it: real processes, a real server, every transport."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.nodes import ask
from tests.support.processes import free_port
from tests.support.redis_servers import redis_server

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@dataclass
class Commands:
    """Runs `python -m hybrid ...` in a directory of its own."""

    directory: Path
    url: str = ""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
        if self.url:
            environment["HYBRID_URL"] = self.url
        return subprocess.Popen(
            [sys.executable, "-m", "hybrid", *arguments],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        return process.returncode, out, err

    @contextlib.contextmanager
    def serving(self, command: str = "serve", *arguments: str) -> Iterator[subprocess.Popen[str]]:
        with self.start(command, "--port", "0", *arguments) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.search(r"http://127\.0\.0\.1:\d+", line)
                assert found, (line, process.stderr and process.stderr.read())
                self.url = found[0]
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """With a server that serves for the whole module."""
    made = Commands(tmp_path_factory.mktemp("cli"))
    with made.serving():
        yield made


def test_a_token_is_printed_alone_and_is_good(commands: Commands) -> None:
    code, out, err = commands.run("token", "--subject", "ada", "--scope", "hybrid:subscribe:chat:*")
    assert code == 0
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", out)
    assert "hybrid:subscribe:chat:*" in err
    request = urllib.request.Request(
        f"{commands.url}/v1/history/chat:token", headers={"Authorization": f"Bearer {out.strip()}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert json.load(answer)["publications"] == []


def test_interrupting_the_device_flow_is_130_and_leaves_nothing_on_stdout(commands: Commands) -> None:
    with commands.start("token", "--device") as device:
        try:
            assert device.stderr is not None
            said = ""
            while "waiting" not in said:
                said += device.stderr.readline()
            device.send_signal(signal.SIGINT)
            out, err = device.communicate(timeout=PATIENCE_S)
        finally:
            device.kill()
    assert (device.returncode, out, err) == (130, "", "")
    assert f"{commands.url}/dev-issuer/device" in said
    assert re.search(r"\n  [B-Z]{4}-[B-Z]{4}\n", said)


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_what_is_published_is_tailed(commands: Commands, transport: str) -> None:
    channel = f"chat:{transport}"
    code, cursor, err = commands.run("publish", channel, '{"n": 1}', "--type", "note")
    assert (code, err) == (0, "")
    with commands.start("tail", channel, "--transport", transport, "--history", "5", "--count", "2") as tail:
        try:
            assert tail.stdout is not None
            first = json.loads(tail.stdout.readline())
            assert first == {"cursor": cursor.strip(), "type": "note", "data": {"n": 1}}
            code, _, _ = commands.run("publish", channel, '"zwei ä"')
            assert code == 0
            out, err = tail.communicate(timeout=PATIENCE_S)
        finally:
            tail.kill()
    assert (tail.returncode, err) == (0, "")
    assert json.loads(out)["data"] == "zwei ä"
    code, out, _ = commands.run("tail", channel, "--transport", transport, "--after", cursor.strip(), "--count", "1")
    assert (code, json.loads(out)["data"]) == (0, "zwei ä")


def test_a_refused_publish_is_one_line_and_1(commands: Commands, tmp_path: Path) -> None:
    _, token, _ = commands.run("token", "--scope", "hybrid:subscribe:chat:*")
    file = tmp_path / "token"
    file.write_text(token)
    code, out, err = commands.run("publish", "chat:1", "1", "--token-file", str(file))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "3403 forbidden" in err
    assert token.strip() not in err


def test_what_is_revoked_stops_to_tail(commands: Commands, tmp_path: Path) -> None:
    """As in README.md: the subject of a token that was made for the purpose."""
    [token] = commands.run("token", "--subject", "mallory")[1].splitlines()[-1:]
    (tmp_path / "token").write_text(token)
    with commands.start("tail", "chat:revoked", "--history", "1", "--token-file", str(tmp_path / "token")) as tail:
        try:
            commands.run("publish", "chat:revoked", "1")
            assert tail.stdout is not None
            assert json.loads(tail.stdout.readline())["data"] == 1
            code, out, err = commands.run("revoke", "--subject", "mallory")
            assert (code, err) == (0, "")
            assert re.fullmatch(r"revoked: subject mallory of \S+; ended at the node that answered: 1\n", out)
            assert tail.wait(PATIENCE_S) == 1
        finally:
            tail.kill()
        assert tail.stderr is not None
        assert "450" in tail.stderr.read()
    code, _, err = commands.run("publish", "chat:revoked", "2", "--token-file", str(tmp_path / "token"))
    assert code == 1
    assert "4501 token_refused" in err


def test_a_key_makes_a_repeat_safe_and_another_body_a_conflict(commands: Commands, tmp_path: Path) -> None:
    _, token, _ = commands.run("token", "--subject", "ada")
    file = tmp_path / "token"
    file.write_text(token)
    more = ("--key", "k1", "--token-file", str(file))
    first, again = (commands.run("publish", "chat:key", "1", *more) for _ in range(2))
    assert first == again
    code, _, err = commands.run("publish", "chat:key", "2", *more)
    assert (code, "3415 key_conflict" in err) == (1, True)


def test_a_taken_port_is_one_line_and_2(commands: Commands) -> None:
    code, out, err = commands.run("serve", "--port", commands.url.rpartition(":")[2])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Cannot listen on" in err


async def test_keys_of_a_newer_layout_are_one_line_and_2(commands: Commands) -> None:
    async with redis_server() as redis:
        await redis.command("SET", "hybrid:c:layout", 2)
        (commands.directory / "newer.toml").write_text(f'broker = "{redis.url}"\nsecret = "{"s" * 32}"\n')
        code, out, err = await asyncio.to_thread(commands.run, "serve", "--settings", "newer.toml", "--port", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "layout 2" in err
    assert "newer version" in err


async def test_a_broker_that_is_away_at_the_start_is_awaited(commands: Commands) -> None:
    async with redis_server() as redis:
        await redis.stop()
        port = free_port()
        (commands.directory / "away.toml").write_text(f'broker = "{redis.url}"\nsecret = "{"s" * 32}"\n')
        with commands.start("serve", "--settings", "away.toml", "--port", str(port)) as server:
            try:
                await until_status(port, 503)
                await redis.start()
                await until_status(port, 200)
            finally:
                server.terminate()
                _, err = await asyncio.to_thread(server.communicate, timeout=PATIENCE_S)
    assert server.returncode == 0
    assert "Traceback" not in err


async def until_status(port: int, status: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await ask(port, "/readyz") != status:
            pass


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_interrupting_tail_is_130_and_silent(commands: Commands, transport: str) -> None:
    channel = f"chat:interrupted-{transport}"
    assert commands.run("publish", channel, "1")[0] == 0
    with commands.start("tail", channel, "--transport", transport, "--history", "1") as tail:
        try:
            assert tail.stdout is not None
            assert tail.stdout.readline()
            tail.send_signal(signal.SIGINT)
            out, err = tail.communicate(timeout=PATIENCE_S)
        finally:
            tail.kill()
    assert (tail.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_server_ends_in_form_with_a_client_attached(
    tmp_path: Path, loop: str, sent: signal.Signals, code: int
) -> None:
    commands = Commands(tmp_path)
    with commands.serving("serve", "--loop", loop) as server:
        assert commands.run("publish", "chat:1", "1")[0] == 0
        with commands.start("tail", "chat:1", "--history", "1") as tail:
            try:
                assert tail.stdout is not None
                assert tail.stdout.readline()
                server.send_signal(sent)
                out, err = server.communicate(timeout=PATIENCE_S)
                assert (server.returncode, out) == (code, "")
                assert "Traceback" not in err
                assert "development issuer" in err
                assert tail.poll() is None, "tail waits for the server to come back"
            finally:
                tail.kill()


def test_the_demo_prints_exactly_one_url_and_serves_a_page(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    with commands.serving("demo") as demo:
        with urllib.request.urlopen(commands.url, timeout=PATIENCE_S) as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
        demo.send_signal(signal.SIGTERM)
        out, _ = demo.communicate(timeout=PATIENCE_S)
    assert (demo.returncode, out) == (0, "")


def test_the_plain_hypercorn_command_serves_it_too(tmp_path: Path) -> None:
    code = (
        "import asyncio, hybrid.asgi\n"
        "async def main():\n"
        "    client = hybrid.asgi.app.test_client()\n"
        "    answer = await client.get('/healthz', headers={'Host': '127.0.0.1:8000'})\n"
        "    print(answer.status_code)\n"
        "asyncio.run(main())\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HYBRID_DEVELOPMENT_ISSUER": "true"}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    served = run()
    assert (served.returncode, served.stdout) == (0, "200\n"), served.stderr
    assert "the development issuer is on" in served.stderr
    refused = run(HYBRID_DEVELOPMENT_ISSUER="false")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "No issuer is configured" in refused.stderr
