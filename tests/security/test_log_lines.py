"""The log as programs read it: of every line of a whole server, whom it is about is said, and no secret.

`test_no_trace` shows that no message holds one; this one shows it of what is written, fields and tracebacks included.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hybrid.logs import JsonFormatter
from hybrid.settings import Namespace
from hybrid.web.logs import introduce
from tests.support.bytewise import EVENTS, JSON, WEBSOCKET, call, connected, frame, request, text, until, websocket
from tests.support.server import RunningServer, new_issuer, running_server, settings_for

MARKER = "MarkerThatMustNotBeSeen"
SUBJECT = "alice@example.com"
COOKIE = f"__Host-session={MARKER}Cookie"


class Written:
    """What the log has written so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == logger]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Written]:
    """All loggers at DEBUG, written as `log_format = "json"` does it."""
    written = Written()
    handler = logging.StreamHandler(written.stream)
    handler.setFormatter(JsonFormatter())
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


async def heard(server: RunningServer, raw: bytes, then: bytes = b"") -> None:
    async with connected(server) as connection:
        connection.send(raw)
        head = await connection.head()
        if head.status == 101:
            connection.send(then + frame(b"", 8))
            await connection.ended()


async def test_a_secret_is_in_no_line_whatever_goes_wrong(log: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = new_issuer()
    settings = settings_for(namespaces={"default": Namespace("default", presence=True)})
    shown: list[str] = []
    async with running_server(replace(settings, log_level="debug"), issuer=issuer) as server:
        good = server.token(SUBJECT)
        bad = [
            new_issuer().mint(MARKER, "hybrid:subscribe:*"),
            server.token(MARKER, lifetime_s=-100),
            f"eyJ{MARKER}{MARKER}.{MARKER}{MARKER}.{MARKER}{MARKER}",
            MARKER * 3,
        ]
        shown += [good, *bad]
        attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "a"}]}
        for token in shown:
            named = {"Authorization": f"Bearer {token}", "Cookie": COOKIE}
            for method, target, headers, body in (
                ("GET", "/v1/channels/a?wait=0", {}, b""),
                ("GET", f"/v1/channels/a?access_token={token}", {}, b""),
                ("GET", f"/v1/stream?ticket={token[:43]}", {}, b""),
                ("POST", "/v1/channels/a", JSON, b"1"),
                ("POST", "/v1/command", JSON, b'{"commands":[{"method":"publish","id":1,"channel":"a","data":1}]}'),
                ("POST", "/v1/stream", {**JSON, **EVENTS}, json.dumps(attach).encode()),
                ("GET", "/nothing", {}, b""),
            ):
                await heard(server, request(method, target, {**headers, **named}, body))
            refresh = text({"method": "refresh", "id": 1, "n": 1, "token": token})
            auth = text({"method": "auth", "token": token}) + text(attach) + refresh
            await heard(server, request("GET", "/v1/stream", WEBSOCKET), auth)
            await heard(server, request("GET", "/v1/channels/a", WEBSOCKET), auth)
        wanted = {"purpose": "channels", "channels": ["a"]}
        bearer = {"Authorization": f"Bearer {good}"}
        ticket = (await call(server, "POST", "/v1/ticket", bearer, json.dumps(wanted).encode())).json()["ticket"]
        shown.append(ticket)
        for target in (f"/v1/channels/a?ticket={ticket}", f"/v1/channels/b?ticket={ticket}"):
            await heard(server, request("GET", target, EVENTS))

        # What fails where it cannot, with the credential in the words of its error.
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(f"Bearer {good} {COOKIE.replace('=', ': ')} Cookie: {COOKIE} ticket={ticket}")

        monkeypatch.setattr(server.engine.operations, "publish_many", fail)
        await call(server, "POST", "/v1/channels/a", {**JSON, **bearer}, b"1")
        async with websocket(server, "/v1/stream", bearer) as connection:
            connection.send(text(attach) + text({"method": "publish", "id": 2, "channel": "a", "data": 1}))
            await connection.ended()
        monkeypatch.setattr(server.engine.verifier, "cached", fail)
        await heard(server, request("GET", "/v1/channels/a", bearer))
        await until(lambda: not len(server.engine.open))
    for credential in shown:
        for trace in {part[-24:] for part in credential.split(".") if len(part) >= 24}:
            assert trace not in log.text
    assert f"{MARKER}Cookie; " not in log.text
    errors = [line for line in log.lines if "error" in line]
    assert len(errors) >= 3
    assert all("[token]" in line["error"]["message"] and "Traceback" in line["error"]["stack"] for line in errors)
    assert any(line["logger"].endswith("jwt") for line in log.lines), "the log was really listening"


async def test_a_line_says_whom_it_is_about_and_no_name(log: Written) -> None:
    settings = replace(settings_for(), secret="a secret of the nodes that has 32 characters")
    async with running_server(settings) as server:
        introduce(server.engine, settings)
        session = ""
        async with websocket(server, "/v1/stream", server.bearer(SUBJECT)) as connection:
            connection.send(text({"method": "attach", "attempt": 1, "confirm": True}))
            session = (await connection.push())["attached"]["session"]
        async with websocket(server, "/v1/channels/a", server.bearer(SUBJECT)):
            pass
        await until(lambda: not len(server.engine.open))
        first, second = log.of("hybrid.access")
        assert (first["session"], first["transport"], first["remote"]) == (session, "websocket", "127.0.0.1")
        assert (first["event"], first["code"], first["node"]) == ("closed", 1006, server.engine.router.node)
        assert len(first["principal"]) == 16
        assert first["principal"] == second["principal"], "one person, one name"
        assert SUBJECT not in log.text
        introduce(server.engine, replace(settings, log_principals="plain"))
        async with websocket(server, "/v1/channels/a", server.bearer(SUBJECT)):
            pass
        await until(lambda: len(log.of("hybrid.access")) == 3)
    assert log.of("hybrid.access")[2]["principal"] == SUBJECT


async def test_a_failed_request_is_told_with_who_asked(log: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(settings_for()) as server:

        async def fail(*_: object) -> None:
            raise RuntimeError("on purpose")

        monkeypatch.setattr(server.engine.operations, "publish_many", fail)
        await call(server, "POST", "/v1/channels/a", {**JSON, **server.bearer(SUBJECT)}, b"1")
        async with websocket(server, "/v1/stream", server.bearer(SUBJECT)) as connection:
            attach = text({"method": "attach", "attempt": 1, "confirm": True})
            connection.send(attach + text({"method": "publish", "id": 2, "channel": "a", "data": 1}))
            await connection.ended()
        asked, commanded = [line for line in log.lines if "error" in line]
    assert (asked["message"], asked["remote"]) == ("a request failed", "127.0.0.1")
    assert commanded["message"] == "a command of a client failed"
    assert commanded["session"]
    assert asked["principal"] == commanded["principal"]
