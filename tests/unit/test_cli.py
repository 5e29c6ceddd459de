"""The command line: help for people, one line for each mistake, exit codes. The real server is in tests/web."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hybrid import cli
from hybrid.cli import running
from hybrid.errors import SettingsError
from hybrid.settings import Settings

ROOT = Path(cli.__file__).parents[2]
COMMANDS = ("serve", "demo", "publish", "tail", "token", "revoke", "top")


@pytest.fixture(autouse=True)
def _without_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HYBRID_URL", "HYBRID_TOKEN", "HYBRID_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


class Answers(BaseHTTPRequestHandler):
    """A server that answers each path with what the test put there, and remembers what it was sent."""

    routes: dict[str, tuple[int, bytes]]
    seen: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, answer = self.routes.get(self.path, (404, b"nothing here"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print nothing."""


class Server:
    def __init__(self) -> None:
        self.handler = type("Handler", (Answers,), {"routes": {}, "seen": []})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def seen(self) -> list[tuple[str, dict[str, str], bytes]]:
        return self.handler.seen  # type: ignore[attr-defined, no-any-return]

    def answer(self, path: str, status: int, body: dict[str, Any] | bytes) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.routes[path.partition("?")[0]] = (status, raw)  # type: ignore[attr-defined]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join()
        made.http.server_close()


def refused_url() -> str:
    """A URL on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """All that was said on stderr: one line, no traceback."""
    text = capsys.readouterr().err
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


# -- help and options


def test_the_help_names_every_command_and_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^ +{command} ", text, re.MULTILINE)
    assert "hybrid demo" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "Examples:\n" in text
    assert f"hybrid {command}" in text.split("Examples:")[1]


def test_every_example_in_the_help_can_be_parsed() -> None:
    """The examples are read by people who type them."""
    import shlex

    parser = cli.build_parser()
    checked = 0
    for command in COMMANDS:
        subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        description = subparsers.choices[command].description or ""
        for line in description.split("Examples:")[1].splitlines():
            found = re.search(r"(?:^|[ (|])hybrid (\w+[^|)]*)", line)
            if found is None:
                continue
            words = shlex.split(re.split(r"  +on any| 2>", found[1])[0])
            parser.parse_args(words)
            checked += 1
    assert checked >= 12


def test_no_command_takes_a_token_on_its_command_line() -> None:
    parser = cli.build_parser()
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in subparsers.choices.items():
        options = {option for action in command._actions for option in action.option_strings}
        assert "--token" not in options, name


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"hybrid \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["serve", "--prot", "1"],
        ["serve", "--port", "70000"],
        ["serve", "--port", "many"],
        ["serve", "--loop", "trio"],
        ["publish", "chat"],
        ["tail"],
        ["tail", "chat", "--transport", "pigeon"],
        ["tail", "chat", "--count", "0"],
        ["tail", "chat", "--history", "1001"],
        ["tail", "chat", "--history", "1", "--after", "0"],
        ["tail", "chat", "--token", "secret"],
        ["revoke"],
        ["revoke", "alice"],
        ["revoke", "--jti", "a", "--sid", "b"],
    ],
)
def test_a_bad_option_is_one_line_and_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "--help" in one_line(capsys)


# -- settings


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_an_unreadable_setting_is_one_line_and_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hybrid.toml").write_text("prot = 1")
    assert cli.main([command]) == 2
    assert "Did you mean port?" in one_line(capsys)
    assert cli.main([command, "--settings", "missing.toml"]) == 2
    assert "missing.toml does not exist" in one_line(capsys)


def test_a_public_server_without_an_issuer_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 2
    assert "No issuer is configured" in one_line(capsys)
    assert cli.main(["serve", "--host", "0.0.0.0", "--development-issuer"]) == 2
    assert "allow_public_development_issuer" in one_line(capsys)
    assert cli.main(["demo", "--host", "0.0.0.0"]) == 2
    assert "allow_public_development_issuer" in one_line(capsys)


def test_a_taken_port_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["serve", "--port", port, "--loop", "asyncio", "--log-level", "error"]) == 2
        assert f"127.0.0.1:{port}" in one_line(capsys)


def test_an_address_of_another_machine_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--host", "192.0.2.1", "--port", "0", "--development-issuer"]) == 2
    assert "allow_public_development_issuer" in one_line(capsys)
    with pytest.raises(SettingsError, match=r"Cannot listen on 192\.0\.2\.1"):
        running.free_port("192.0.2.1")


def test_options_win_over_the_file_and_port_0_becomes_a_real_port(tmp_path: Path) -> None:
    (tmp_path / "hybrid.toml").write_text('port = 1\nlog_level = "error"\nhost = "127.0.0.2"')
    options = cli.build_parser().parse_args(["serve", "--port", "0", "--host", "127.0.0.1"])
    settings = running.load_settings(options)
    assert isinstance(settings, Settings)
    assert (settings.host, settings.log_level, settings.development_issuer) == ("127.0.0.1", "error", True)
    assert settings.port > 0
    assert settings.public_url == f"http://127.0.0.1:{settings.port}"
    assert f"localhost:{settings.port}" in settings.allowed_hosts


# -- client commands


@pytest.mark.parametrize(
    "arguments",
    [
        ["token"],
        ["publish", "chat", "1"],
        *(["tail", "chat", "--transport", t] for t in ("websocket", "sse")),
    ],
)
def test_a_refused_connection_is_one_line_and_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    url = refused_url()
    assert cli.main([*arguments, "--url", url]) == 2
    assert f"Cannot reach {url}" in one_line(capsys)


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_tail_with_a_token_at_hand_says_that_nobody_listens(
    transport: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = refused_url()
    monkeypatch.setenv("HYBRID_TOKEN", "t")
    assert cli.main(["tail", "chat", "--transport", transport, "--url", url]) == 2
    assert f"Cannot reach {url}" in one_line(capsys)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x"])
def test_a_url_that_is_none_is_one_line_and_2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "--url", url]) == 2
    assert repr(url) in one_line(capsys)


def test_the_url_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = refused_url()
    monkeypatch.setenv("HYBRID_URL", url)
    assert cli.main(["token"]) == 2
    assert url in one_line(capsys)


def test_a_token_stands_alone_on_stdout(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("/dev-issuer/token", 200, {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 900})
    assert cli.main(["token", "--url", server.url, "--subject", "ada", "--scope", "hybrid:subscribe:a b"]) == 0
    said = capsys.readouterr()
    assert said.out == "a.b.c\n"
    assert "900 s" in said.err
    _, headers, body = server.seen[0]
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert body == b"grant_type=client_credentials&client_id=cli&subject=ada&scope=hybrid%3Asubscribe%3Aa+b"


def test_a_refused_token_is_one_line_and_1(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("/dev-issuer/token", 400, {"error": "invalid_scope", "error_description": "no such scope"})
    assert cli.main(["token", "--url", server.url]) == 1
    assert "invalid_scope: no such scope" in one_line(capsys)


def test_a_server_without_a_development_issuer_is_one_line_and_1(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["token", "--url", server.url]) == 1
    assert "no development issuer" in one_line(capsys)


def test_publish_fetches_a_token_and_prints_the_cursor(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("/dev-issuer/token", 200, {"access_token": "a.b.c"})
    server.answer("/v1/channels/chat%3A1", 200, {"offset": 3, "epoch": "k3f9", "tag": "9c1d07aa"})
    arguments = ["publish", "chat:1", ' {"a": 1} ', "--type", "t", "--key", "k", "--url", server.url]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == "k3f9-3-9c1d07aa\n"
    _, headers, body = server.seen[1]
    assert headers["authorization"] == "Bearer a.b.c"
    assert (headers["hybrid-type"], headers["idempotency-key"]) == ("t", "k")
    assert (headers["content-type"], body) == ("application/json", b'{"a": 1}')


@pytest.mark.parametrize("kind", ["jti", "sid", "subject", "client"])
def test_revoke_fetches_a_token_that_may_and_says_what_was_done(
    kind: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("/dev-issuer/token", 200, {"access_token": "a.b.c"})
    done = {kind: "alice", "issuer": "https://id.example", "at_s": 1_800_000_000.5, "ended_here": 3}
    server.answer("/v1/revoke", 200, done)
    assert cli.main(["revoke", f"--{kind}", "alice", "--url", server.url]) == 0
    assert capsys.readouterr().out == (
        f"revoked: {kind} alice of https://id.example; ended at the node that answered: 3\n"
    )
    (_, _, asked), (_, headers, body) = server.seen
    assert b"scope=hybrid%3Arevoke" in asked
    assert headers["authorization"] == "Bearer a.b.c"
    assert json.loads(body) == {kind: "alice"}


def test_a_refused_revocation_is_one_line_and_1(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYBRID_TOKEN", "t")
    problem = {"status": 403, "number": 3403, "name": "forbidden", "detail": "It needs the scope hybrid:revoke."}
    server.answer("/v1/revoke", 403, problem)
    assert cli.main(["revoke", "--subject", "alice", "--url", server.url]) == 1
    assert "It needs the scope hybrid:revoke. (3403 forbidden)" in one_line(capsys)
    for answer in (b"<html>", b"{}", b'{"issuer": "i", "ended_here": "many"}'):
        server.answer("/v1/revoke", 200, answer)
        assert cli.main(["revoke", "--subject", "alice", "--url", server.url]) == 2
        assert "not that of a hybrid server" in one_line(capsys)


def test_a_token_at_hand_is_used_and_none_is_asked_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("/v1/channels/chat", 200, {"offset": 1, "epoch": "k", "tag": "9c1d07aa"})
    monkeypatch.setenv("HYBRID_TOKEN", "of-the-environment")
    assert cli.main(["publish", "chat", "1", "--url", server.url]) == 0
    (tmp_path / "token").write_text("of-the-file\n")
    assert cli.main(["publish", "chat", "1", "--url", server.url, "--token-file", "token"]) == 0
    assert [headers["authorization"] for _, headers, _ in server.seen] == [
        "Bearer of-the-environment",
        "Bearer of-the-file",
    ]
    assert "of-the" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"), [("", "one token"), ("two tokens", "one token"), ("a,b", "one token"), ("\xe9", "plain text")]
)
def test_a_token_file_that_holds_none_is_one_line_and_2(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(text, encoding="latin-1")
    assert cli.main(["publish", "chat", "1", "--token-file", "token"]) == 2
    assert why in one_line(capsys)
    assert cli.main(["tail", "chat", "--token-file", "missing"]) == 2
    assert "missing cannot be read" in one_line(capsys)


@pytest.mark.parametrize("token", ["a-secret\nof-two-lines", "a-secr\xe9t", "a secret", "a-secret=x"])
@pytest.mark.parametrize("command", [["publish", "chat", "1"], ["tail", "chat"], ["doctor"], ["doctor", "--json"]])
def test_what_is_no_token_is_one_line_and_2_and_is_not_quoted(
    command: list[str], token: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYBRID_TOKEN", token)
    monkeypatch.setenv("HYBRID_URL", server.url)
    assert cli.main(command) == 2
    told = one_line(capsys)
    assert "HYBRID_TOKEN holds no token" in told
    assert "secr" not in told
    assert server.seen == []


@pytest.mark.parametrize("text", ["hello", "", "{", "[" * 100_000])
def test_what_is_not_json_is_one_line_and_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publish", "chat", text]) == 2
    assert "This is not JSON" in one_line(capsys)


@pytest.mark.parametrize("command", [["publish", "*", "1"], ["tail", "a*"]])
def test_a_name_that_is_none_is_one_line_and_1(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command) == 1
    assert "`*`" in one_line(capsys)


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
def test_a_refusal_by_the_server_is_one_line_and_1(
    transport: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYBRID_TOKEN", "t")
    problem = {"title": "Forbidden", "status": 403, "number": 3403, "name": "forbidden", "detail": "Not this one."}
    for path in ("/v1/channels/chat", "/v1/channels/chat?wait=25"):
        server.handler.routes[path] = (403, json.dumps(problem).encode())  # type: ignore[attr-defined]
    assert cli.main(["publish", "chat", "1", "--url", server.url]) == 1
    assert "Not this one. (3403 forbidden)" in one_line(capsys)
    assert cli.main(["tail", "chat", "--transport", transport, "--url", server.url]) == 1
    assert "Not this one. (3403 forbidden)" in one_line(capsys)


def test_another_kind_of_server_is_one_line_and_2(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYBRID_TOKEN", "t")
    assert cli.main(["publish", "chat", "1", "--url", server.url]) == 2
    assert "not a hybrid server?" in one_line(capsys)
    server.answer("/v1/channels/chat", 200, b"<html>")
    assert cli.main(["publish", "chat", "1", "--url", server.url]) == 2
    assert "not that of a hybrid server" in one_line(capsys)


# -- ends


def test_an_interrupt_is_130_and_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid.cli.server.run_client", interrupted)
    coroutines: list[Any] = []
    monkeypatch.setattr("hybrid.cli.token._token", lambda options: coroutines.append(options))
    assert cli.main(["token"]) == 130
    assert coroutines
    assert capsys.readouterr() == ("", "")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hybrid.cli.token.run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["token"])


def test_a_broken_pipe_is_quiet(server: Server) -> None:
    publications = [{"channel": "c", "offset": n, "epoch": "k", "tag": "9c1d07aa", "data": "x" * 1000} for n in (1, 2)]
    answer = {"cursor": "k-2-9c1d07aa", "recovered": True, "publications": publications * 100}
    server.handler.routes["/v1/channels/c?wait=25"] = (200, json.dumps(answer).encode())  # type: ignore[attr-defined]
    server.handler.routes["/v1/channels/c?wait=25&after=k-2-9c1d07aa"] = (  # type: ignore[attr-defined]
        200,
        json.dumps(answer).encode(),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "hybrid", "tail", "c", "--transport", "longpoll", "--url", server.url],
        env={"HYBRID_TOKEN": "t", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == b""
    assert first["cursor"] == "k-1-9c1d07aa"


def test_help_is_quick() -> None:
    """One import of a dependency at the top of a command would cost more than all of argparse."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "hybrid", "--help"], check=True, capture_output=True, timeout=60, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < 0.5, "the bound is 0.15 s on a quiet machine"


def test_the_commands_leave_no_event_loop_behind(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["token", "--url", refused_url()])
    capsys.readouterr()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
