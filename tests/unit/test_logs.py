"""Lines of the log, for people and for programs."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from hybrid.logs import JsonFormatter, ReadableFormatter, fields, hashed, plain, redacted, speaking
from hybrid.model import ANONYMOUS, Principal

ALICE = Principal(issuer="https://issuer.example", subject="alice", client="app")
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def record(message: str = "something", *arguments: object, **options: Any) -> logging.LogRecord:
    made = logging.LogRecord("hybrid.test", logging.WARNING, __file__, 1, message, arguments, options.get("exc_info"))
    for name, value in options.get("extra", {}).items():
        setattr(made, name, value)
    return made


def written(made: logging.LogRecord, formatter: JsonFormatter | None = None) -> dict[str, Any]:
    line = (formatter or JsonFormatter()).format(made)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


class Leg:
    """Somebody for whom something is done."""

    def __init__(self, **known: object) -> None:
        self.known = known

    def log_fields(self) -> Mapping[str, object]:
        return self.known


def test_a_line_is_one_object_with_the_time_of_its_event() -> None:
    made = record("%s of %d", "one", 2)
    made.created = 1_764_288_000.1239
    line = written(made)
    assert line == {
        "time": "2025-11-28T00:00:00.123Z",
        "level": "warning",
        "logger": "hybrid.test",
        "message": "one of 2",
        "pid": made.process,
    }


def test_line_breaks_and_what_is_no_text_cannot_forge_a_line() -> None:
    line = JsonFormatter().format(record('a\n{"forged": 1}\r\n\u2028\ud800'))
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["message"].startswith('a\n{"forged": 1}')
    line.encode()  # a lone surrogate would raise in the stream


def test_whom_it_is_about_is_said_and_the_line_itself_wins() -> None:
    formatter = JsonFormatter(worker=3)
    formatter.node, formatter.name_of = "node-1", plain
    token = speaking.set(Leg(session="s1", remote="192.0.2.1", principal=ALICE, message="mine", empty=""))
    try:
        line = written(record(extra=fields(session="s2", code=1000, is_ours=True)), formatter)
    finally:
        speaking.reset(token)
    assert (line["worker"], line["node"], line["session"], line["code"], line["is_ours"]) == (
        3,
        "node-1",
        "s2",
        1000,
        True,
    )
    assert (line["remote"], line["principal"], line["message"]) == ("192.0.2.1", "alice", "something")
    assert "empty" not in line
    assert "session" not in written(record()), "and only where somebody works for it"


def test_a_principal_is_hashed_with_a_key_that_nodes_can_share() -> None:
    ours, theirs = hashed(b"k" * 32), hashed(b"other" * 8)
    elsewhere = Principal(issuer="https://other.example", subject="alice")
    assert re.fullmatch("[0-9a-f]{16}", ours(ALICE))
    assert ours(ALICE) == hashed(b"k" * 32)(Principal(issuer=ALICE.issuer, subject="alice", client="phone"))
    assert len({ours(ALICE), theirs(ALICE), ours(elsewhere)}) == 3
    line = written(record(extra=fields(principal=ALICE)))
    assert "alice" not in json.dumps(line)
    assert written(record(extra=fields(principal=ANONYMOUS)))["principal"] == "anonymous"


def test_an_exception_is_told_with_its_stack() -> None:
    try:
        raise ValueError(f"Bearer {TOKEN}")
    except ValueError:
        line = written(record(exc_info=sys.exc_info()))
    assert line["error"]["type"] == "builtins.ValueError"
    assert line["error"]["message"] == "Bearer [token]"
    assert "test_logs.py" in line["error"]["stack"]
    assert TOKEN not in json.dumps(line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"got {TOKEN}!", "got [token]!"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer [token]"),
        ("DPoP abcdefgh.ijkl", "DPoP [token]"),
        ("/v1/stream?ticket=abc-DEF_1&x=1", "/v1/stream?ticket=[secret]&x=1"),
        ("access_token=opaque", "access_token=[secret]"),
        ("client_secret=s3cret&grant_type=x", "client_secret=[secret]&grant_type=x"),
        ("Cookie: __Host-session=abc; other=1", "Cookie: [secret]"),
        ("redis://user:pass@host:6379/0", "redis://[secret]@host:6379/0"),
        ("a bearer of news, the token of a channel", "a bearer of news, the token of a channel"),
        ("channel chat:lobby at 127.0.0.1:8000", "channel chat:lobby at 127.0.0.1:8000"),
    ],
)
def test_what_looks_like_a_secret_is_not_written(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert ReadableFormatter().format(record(text)).endswith(f"hybrid.test: {shown}")
    assert written(record(text))["message"] == shown


def test_readable_lines_of_a_worker_name_it() -> None:
    made = record("hello")
    assert f" WARNING worker 2 ({made.process}) hybrid.test: hello" in ReadableFormatter(2).format(made)
    assert " WARNING hybrid.test: hello" in ReadableFormatter().format(made)
