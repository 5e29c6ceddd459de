"""The command line of `hybrid bench`: every mistake is one line that says what to do. Nothing is dialled."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybrid import cli
from hybrid.bench import host
from hybrid.bench.plan import make
from hybrid.bench.tokens import read_tokens
from hybrid.cli.bench import make_plan
from hybrid.errors import SettingsError
from tests.unit.test_cli import Server, one_line, refused_url, server

__all__ = ["server"]  # a fixture


@pytest.fixture(autouse=True)
def _without_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HYBRID_URL", "HYBRID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clients", "-1"], "from 0 to 1000000"),
        (["--clients", "1000001"], "from 0 to 1000000"),
        (["--rate", "fast"], "from 0 to 1e+06"),
        (["--rate", "nan"], "from 0 to 1e+06"),
        (["--size", "23"], "from 24 to 1048576"),
        (["--size", "1048577"], "from 24 to 1048576"),
        (["--duration", "86401"], "from 0 to 86400"),
        (["--publications", "0"], "from 1 to"),
        (["--processes", "257"], "from 1 to 256"),
        (["--storm", "tea"], "'connect', 'reconnect'"),
        (["--publish-over", "pigeon"], "'http', 'websocket'"),
        (["--pid", "0"], "from 1 to"),
        (["--in-flight", "1001"], "from 1 to 1000"),
        (["--subjects", "10001"], "from 1 to 10000"),
        (["--connect-timeout", "0"], "from 1 to"),
    ],
)
def test_a_bad_option_is_one_line_and_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *arguments])
    assert ended.value.code == 2
    line = one_line(capsys)
    assert words in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mix", "tcp=3"], "websocket, sse, longpoll, plain-sse"),
        (["--channels", "2", "--per-channel", "10"], "raise --channels to 10"),
        (["--publishers", "0", "--rate", "5"], "--publishers 0"),
        (["--clients", "0", "--publishers", "0"], "nothing to do"),
        (["--from", "192.0.2.1"], "no address of this host"),
        (["--from", "here"], "no address of this host"),
        (["--token-file", "missing"], "missing cannot be read"),
        (["--json", "no/such/folder"], "no/such/folder cannot be written"),
        (["--html", "no/such/folder"], "no/such/folder cannot be written"),
        (["--insecure", "--ca-file", "x"], "give one of them"),
        (["--ca-file", "missing"], "--ca-file missing cannot be used"),
    ],
)
def test_what_cannot_be_is_one_line_and_2(
    arguments: list[str], words: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("/v1/ping", 200, {"at_ms": 1})
    assert cli.main(["bench", server.url, *arguments]) == 2
    assert words in one_line(capsys)


def test_a_server_that_is_not_there_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    url = refused_url()
    assert cli.main(["bench", url]) == 2
    assert f"Cannot reach {url}" in one_line(capsys)


def test_a_server_that_is_another_one_is_one_line_and_2(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", server.url]) == 2
    assert "not a hybrid server?" in one_line(capsys)


def test_a_server_that_drains_is_one_line_and_1(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer("/v1/ping", 503, {"number": 1012, "name": "draining", "detail": "It drains."})
    assert cli.main(["bench", server.url]) == 1
    assert "1012 draining" in one_line(capsys)


@pytest.mark.parametrize("command", [["--help"], ["bench", "--help"]])
def test_the_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 0
    assert "bench" in capsys.readouterr().out


def test_every_example_in_the_help_makes_a_plan() -> None:
    from hybrid.cli.bench import _DESCRIPTION

    parser = cli.build_parser()
    lines = [line.strip() for line in _DESCRIPTION.split("Examples:")[1].splitlines() if line.strip()]
    assert len(lines) >= 5
    for line in lines:
        words = line.replace("$(pgrep -of 'hybrid serve')", "1").split()
        make_plan(parser.parse_args(words[1:]))


def test_a_count_ends_a_run_whatever_the_time() -> None:
    parser = cli.build_parser()
    assert make_plan(parser.parse_args(["bench"])).duration_s == 10
    assert make_plan(parser.parse_args(["bench", "--publications", "5"])).duration_s == 3_600
    assert make_plan(parser.parse_args(["bench", "--publications", "5", "--duration", "3"])).duration_s == 3


# -- tokens


def test_a_token_file_has_one_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").write_text("one\n\n two \nthree")
    assert read_tokens("tokens") == ["one", "two", "three"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"four\n")))
    assert read_tokens("-") == ["four"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no token"),
        (b"\n \n", "holds no token"),
        (b"good\nsecret token\n", "line 2 is no token"),
        (b"\xff\xfe", "not plain text"),
        (b"x\n" * 100_001, "more than 100,000"),
    ],
)
def test_a_token_file_that_is_none_is_refused_without_quoting_it(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(SettingsError, match=words) as refused:
        read_tokens("tokens")
    assert "secret" not in str(refused.value)


def test_a_token_of_the_environment_that_is_none_is_one_line_and_2(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("/v1/ping", 200, {"at_ms": 1})
    monkeypatch.setenv("HYBRID_TOKEN", "secret token")
    assert cli.main(["bench", server.url]) == 2
    line = one_line(capsys)
    assert "HYBRID_TOKEN holds no token" in line
    assert "secret" not in line


def test_tokens_that_end_too_soon_are_refused_before_the_run(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer("/v1/ping", 200, {"at_ms": 1})
    server.answer("/dev-issuer/token", 200, {"access_token": "a.b.c", "expires_in": 900})
    assert cli.main(["bench", server.url, "--subjects", "3", "--duration", "1000"]) == 2
    said = capsys.readouterr().err
    assert "live for 900 s, and this takes 1015 s" in said
    assert "a.b.c" not in said
    asked = [body for path, _, body in server.seen if path == "/dev-issuer/token"]
    assert len(asked) == len(set(asked)) == 3  # each has a subject of its own


# -- what the host can carry


def test_too_few_descriptors_say_how_to_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "descriptors_max", lambda: 1_024)
    host.check_host(make(clients=900))
    with pytest.raises(SettingsError, match=r"needs 1,065 file descriptors, and the hard limit is 1,024.*nofile"):
        host.check_host(make(clients=1_000))
    host.check_host(make(clients=1_000, processes=2))


def test_too_few_ports_say_how_to_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "local_ports", lambda: 1_000)
    monkeypatch.setattr(host, "descriptors_max", lambda: None)
    host.check_host(make(clients=999))
    with pytest.raises(SettingsError, match=r"1,001 connections need as many local ports, and this host has 1,000"):
        host.check_host(make(clients=1_000))
    host.check_host(make(clients=1_000), ["127.0.0.1", "127.0.0.1"])


def test_where_nothing_is_told_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "local_ports", lambda: None)
    monkeypatch.setattr(host, "descriptors_max", lambda: None)
    host.check_host(make(clients=1_000_000))


def test_an_address_of_this_host_may_be_dialled_from() -> None:
    host.check_host(make(), ["127.0.0.1"])


def test_the_order_for_a_process_does_not_show_its_tokens() -> None:
    from hybrid.bench.messages import Order, Target

    order = Order(make(), Target("h", "h", "", []), 0, ["secret"])
    assert "secret" not in repr(order)
