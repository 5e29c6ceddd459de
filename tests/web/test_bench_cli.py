"""`hybrid bench` as a person uses it: real processes, a real server, files, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.web.test_cli_real import PATIENCE_S, Commands

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Commands, subprocess.Popen[str]]]:
    """With a server that serves for the whole module."""
    made = Commands(tmp_path_factory.mktemp("bench"))
    with made.serving() as process:
        yield made, process


def test_it_measures_checks_and_writes_its_files(serving: tuple[Commands, subprocess.Popen[str]]) -> None:
    commands, server = serving
    mix = "websocket=2,sse=1,longpoll=1,plain-sse=1"
    files = ("--json", "result.json", "--html", "report.html")
    code, out, err = commands.run(
        "bench", commands.url, "--clients", "20", "--mix", mix, "--publications", "50", "--in-flight", "2",
        "--pid", str(server.pid), *files,
    )  # fmt: skip
    assert code == 0, (out, err)
    assert "20 of 20" in out
    assert re.search(r"^delivered +1,000 in ", out, re.MULTILINE)
    assert re.search(r"^latency +p50 \S+ \S+  p90 ", out, re.MULTILINE)
    assert re.search(r"^server +1 process: \d+\.\d\d s of CPU", out, re.MULTILINE)
    assert re.search(r"^order +right: every offset of all 1,000 deliveries", out, re.MULTILINE)
    assert "delivering: 20 of 20 clients" in err
    assert "\x1b" not in err  # no terminal
    result = json.loads((commands.directory / "result.json").read_text())
    assert (result["exit_code"], result["delivered"]["deliveries"]) == (0, 1_000)
    page = (commands.directory / "report.html").read_text()
    assert "1,000 deliveries" in page
    assert f"{result['delivered']['deliveries_per_s']:,.0f}" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|<script", page)
    for text in (out, err, page, json.dumps(result)):
        assert "eyJ" not in text  # no token


def test_the_json_can_be_read_from_standard_output(serving: tuple[Commands, subprocess.Popen[str]]) -> None:
    commands, _ = serving
    code, out, _ = commands.run("bench", "--clients", "3", "--publications", "5", "--json", "-")
    assert (code, json.loads(out)["delivered"]["deliveries"]) == (0, 15)


def test_ctrl_c_ends_it_with_what_was_measured_and_130(serving: tuple[Commands, subprocess.Popen[str]]) -> None:
    commands, _ = serving
    arguments = ("bench", "--clients", "5", "--rate", "50", "--publications", "100000", "--json", "interrupted.json")
    with commands.start(*arguments) as bench:
        try:
            assert bench.stderr is not None
            while "delivering" not in (line := bench.stderr.readline()):
                assert line, "it ended by itself"
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=PATIENCE_S)
        finally:
            bench.kill()
    assert bench.returncode == 130, (out, err)
    assert "interrupted: these are the figures until then" in out
    result = json.loads((commands.directory / "interrupted.json").read_text())
    assert (result["was_interrupted"], result["order"]["is_right"]) == (True, True)


def test_a_token_file_is_dealt_out(serving: tuple[Commands, subprocess.Popen[str]]) -> None:
    commands, _ = serving
    tokens = [commands.run("token", "--subject", name)[1].strip() for name in ("ada", "grace")]
    (commands.directory / "tokens").write_text("\n".join(tokens))
    code, out, err = commands.run("bench", "--clients", "4", "--publications", "5", "--token-file", "tokens")
    assert code == 0, (out, err)
    assert "development issuer" not in err
    assert not any(token in out + err for token in tokens)
