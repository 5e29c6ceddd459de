"""Tokens and tickets that a whole server has seen stand in no log, answer or header of it. All loggers at DEBUG."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from hybrid.settings import Namespace
from tests.support.bytewise import EVENTS, JSON, WEBSOCKET, call, connected, frame, request, text, until
from tests.support.server import RunningServer, new_issuer, running_server, settings_for
from tests.support.tokens import tampered

MARKER = "MarkerThatMustNotBeSeen"
APP = "https://app.example"


def traces(credential: str) -> set[str]:
    """Pieces long enough to be no coincidence."""
    return {part[-24:] for part in credential.split(".") if len(part) >= 24}


async def exchanged(server: RunningServer, raw: bytes, *, then: bytes = b"") -> bytes:
    """All that comes back for some bytes, until the answer ends or a stream has begun."""
    async with connected(server) as connection:
        connection.send(raw)
        head = await connection.head()
        said = f"{head.headers}".encode()
        if head.status == 101:
            connection.send(then + frame(b"", 8))
            return said + await connection.ended()
        if "content-length" in head.headers:
            return said + await connection.reader.readexactly(int(head.headers["content-length"]))
        return said + await connection.chunk()


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_nothing_that_was_shown_is_seen_again(handoff: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)  # and back to what it was, after the test
    issuer = new_issuer()
    settings = replace(
        settings_for(handoff=handoff, namespaces={"default": Namespace("default", presence=True)}),
        allowed_origins=(APP,),
        log_level="debug",
    )
    shown: list[str] = []
    said: list[bytes] = []
    async with running_server(settings, issuer=issuer) as server:
        good = [server.token(), server.token(scope="hybrid:subscribe:other")]
        stranger = new_issuer()
        bad = [
            stranger.mint(MARKER, "hybrid:subscribe:*"),
            server.token(MARKER, lifetime_s=-100),
            tampered(server.token(MARKER)),
            f"eyJ{MARKER}{MARKER}.{MARKER}{MARKER}.{MARKER}{MARKER}",
            MARKER * 3,
            MARKER * 1_000,
        ]
        shown += [*good, *bad]
        attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "a"}]}
        command = {"commands": [{"method": "publish", "id": 1, "channel": "a", "data": 1}]}
        for token in (*good, *bad):
            for extra in ({}, {"Origin": APP}, {"Origin": "https://evil.example"}):
                for method, target, headers, body in (
                    ("GET", "/v1/channels/a", {}, b""),
                    ("GET", "/v1/channels/a", EVENTS, b""),
                    ("GET", "/v1/channels/%", {}, b""),
                    ("GET", f"/v1/channels/a?access_token={token}", {}, b""),
                    ("GET", f"/v1/channels/a?ticket={token}", EVENTS, b""),
                    ("GET", f"/v1/stream?ticket={token[:43]}", EVENTS, b""),
                    ("GET", "/v1/history/a", {}, b""),
                    ("GET", "/v1/presence/a", {}, b""),
                    ("POST", "/v1/channels/a", JSON, b"1"),
                    ("POST", "/v1/publish", JSON, b"{"),
                    ("POST", "/v1/command", JSON, json.dumps(command).encode()),
                    ("POST", "/v1/stream", JSON, json.dumps(attach).encode()),
                    ("POST", "/v1/stream", {**JSON, **EVENTS}, json.dumps(attach).encode()),
                    ("GET", "/healthz", {}, b""),
                    ("GET", "/nothing", {}, b""),
                ):
                    if len(target) < 4_000:
                        named = {**headers, **extra, "Authorization": f"Bearer {token}"}
                        said.append(await exchanged(server, request(method, target, named, body)))
            refresh = text({"method": "refresh", "id": 1, "n": 1, "token": token})
            for target in ("/v1/stream", "/v1/channels/a"):
                auth = text({"method": "auth", "token": token}) + text(attach) + refresh
                said.append(await exchanged(server, request("GET", target, WEBSOCKET), then=auth))
                named = {**WEBSOCKET, "Authorization": f"Bearer {good[0]}"}
                said.append(await exchanged(server, request("GET", target, named), then=text(attach) + refresh))
                broken = frame(b'{"method":"auth","token":"' + token[:200].encode() + b'"')
                said.append(await exchanged(server, request("GET", target, WEBSOCKET), then=broken))
        bearer = {"Authorization": f"Bearer {good[0]}"}
        for wanted in ({"purpose": "channels", "channels": ["a"]}, {"purpose": "session", "attach": attach}):
            made = await call(server, "POST", "/v1/ticket", bearer, json.dumps(wanted).encode())
            ticket: str = made.json()["ticket"]
            shown.append(ticket)
            right = f"/v1/{'stream' if wanted['purpose'] == 'session' else 'channels/a'}?ticket={ticket}"
            for target in (f"/v1/channels/b?ticket={ticket}", f"/v1/history/a?ticket={ticket}", right, right):
                said.append(await exchanged(server, request("GET", target, EVENTS)))
                evil = {**EVENTS, "Origin": "https://evil.example"}
                said.append(await exchanged(server, request("GET", target, evil)))
        await until(lambda: not len(server.engine.open))
    everything = caplog.text + "".join(f"{record.args!r}{record.msg!r}{record.exc_text!r}" for record in caplog.records)
    answered = b"".join(said).decode("latin-1")
    for credential in shown:
        for trace in traces(credential) | ({MARKER} if MARKER in credential else set()):
            assert trace not in everything
            assert trace not in answered
    assert "token refused" in everything  # so the log was really listening
    assert len(said) > 300
