"""What is printed of an object for a log or a debugger shows no credential: of none of ours, while they are in use."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hybrid.auth.bearer import find_credential
from hybrid.links.head import read_head
from hybrid.protocol.codec import JSON, decode_post
from hybrid.settings import IssuerSettings, Namespace
from tests.support.acting_issuer import issuing
from tests.support.answering import document, fixed
from tests.support.bytewise import EVENTS, call, event_stream, text, websocket
from tests.support.bytewise import JSON as JSON_BODY
from tests.support.configured import configured_server, settings_of
from tests.support.server import AUDIENCE
from tests.support.tokens import EC_KEY, dpop_proof

MARKER = "MarkerThatMustNotBeSeen"


@pytest.mark.parametrize(
    "made",
    [
        lambda: JSON.decode_command(json.dumps({"method": "auth", "token": MARKER}).encode(), 9_000),
        lambda: JSON.decode_command(json.dumps({"method": "refresh", "token": MARKER, "id": 1}).encode(), 9_000),
        lambda: find_credential([(b"authorization", f"Bearer {MARKER}".encode())]),
        lambda: find_credential([(b"authorization", f"DPoP {MARKER}".encode()), (b"dpop", MARKER.encode())]),
        lambda: read_head(f"GET /?t={MARKER} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {MARKER}\r\n\r\n".encode()),
        lambda: IssuerSettings(url="https://a.example", client_id="hybrid", client_secret=MARKER),
        lambda: decode_post(
            json.dumps({"session": "s", "commands": [{"method": "refresh", "token": MARKER}]}).encode(),
            max_bytes=9_000,
            commands_max=9,
        ),
    ],
    ids=["auth", "refresh", "bearer", "proof", "head", "settings", "post"],
)
def test_what_holds_a_credential_does_not_show_it(made: Any) -> None:
    held = made()
    assert held is not None
    for shown in (repr(held), str(held), f"{held}"):
        assert MARKER not in shown


def ours() -> Iterator[object]:
    """Every object of a class of ours that lives now."""
    for thing in gc.get_objects():
        home = type(thing).__module__  # of classes made in C, or by mocks, this may be no text
        if isinstance(home, str) and home.split(".")[0] == "hybrid":
            yield thing


async def test_nothing_of_a_server_in_use_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    """JWTs, opaque tokens, proofs, tickets and our own secret, on open streams of every kind; and all loggers say all
    they have to say, the libraries that ask the issuer included."""
    gc.collect()
    former = list(ours())  # what other tests have left in this process, and takes its time to print
    known = {id(thing) for thing in former}
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
    secret = f"secret-{MARKER}-of-ours"
    async with issuing() as issuer:
        told = {"active": True, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "scope": "hybrid:subscribe:*"}
        issuer.answers["/ask"] = document(told)
        settings = settings_of(
            IssuerSettings(url=issuer.url, client_id="hybrid", client_secret=secret),
            namespaces={"default": Namespace("default", presence=True)},
        )
        async with configured_server(settings) as server, AsyncExitStack() as stack:
            jwts = [issuer.signed({"jti": f"{MARKER}{n}", "client_id": "app"}) for n in range(4)]
            opaque = [f"{MARKER}-opaque-{n}" for n in range(4)]
            bound = issuer.signed({"cnf": {"jkt": EC_KEY.thumbprint()}, "sub": "bound"})
            attach = {"method": "attach", "attempt": 1, "confirm": True, "subscriptions": [{"channel": "a"}]}
            body = json.dumps(attach).encode()
            shown = [*jwts, *opaque, bound, secret]
            for first, other in ((jwts[0], jwts[1]), (opaque[0], opaque[1])):
                bearer = {"Authorization": f"Bearer {first}"}
                socket = await stack.enter_async_context(websocket(server, "/v1/stream"))
                socket.send(text({"method": "auth", "token": first}) + text(attach))
                socket.send(text({"method": "refresh", "id": 1, "n": 1, "token": other}))
                while "reply" not in (push := await socket.push()):
                    pass
                assert "error" not in push["reply"]
                plain = await stack.enter_async_context(websocket(server, "/v1/channels/a", bearer))
                plain.send(text({"method": "auth", "token": other}))
                await stack.enter_async_context(
                    event_stream(server, "/v1/stream", {**bearer, **JSON_BODY}, method="POST", body=body)
                )
                await stack.enter_async_context(event_stream(server, "/v1/channels/a", bearer))
                wanted = json.dumps({"purpose": "channels", "channels": ["a"]}).encode()
                ticket = (await call(server, "POST", "/v1/ticket", {**bearer, **JSON_BODY}, wanted)).json()["ticket"]
                shown.append(ticket)
                await stack.enter_async_context(event_stream(server, f"/v1/channels/a?ticket={ticket}", {}))
                assert (await call(server, "GET", "/v1/presence/a", bearer)).status == 200
            proof = dpop_proof(EC_KEY, "GET", f"{AUDIENCE}/v1/channels/a", bound)
            proven = {"Authorization": f"DPoP {bound}", "DPoP": proof}
            await stack.enter_async_context(event_stream(server, "/v1/channels/a", proven))
            shown.append(proof)
            # And while the issuer is being asked, and when it fails.
            asked = asyncio.Event()

            async def held(writer: asyncio.StreamWriter) -> None:
                asked.set()
                await printed.wait()
                await fixed(b"{}", status="500 Oops")(writer)

            printed = asyncio.Event()
            issuer.answers["/ask"] = held
            waiting = asyncio.create_task(
                call(server, "GET", "/v1/history/a", {"Authorization": f"Bearer {opaque[2]}"})
            )
            await asked.wait()
            pieces = {piece[-24:] for credential in shown for piece in credential.split(".") if len(piece) >= 24}
            pieces.add(MARKER + "-opaque")
            count = 0
            for thing in ours():
                if id(thing) in known:
                    continue
                count += 1
                said = repr(thing)
                assert not [piece for piece in pieces if piece in said], type(thing)
            assert count > 100
            for task in asyncio.all_tasks():
                assert not [piece for piece in pieces if piece in repr(task)]
            printed.set()
            answer = await waiting
            assert answer.status == 503
            assert MARKER not in repr(answer)
    everything = "".join(f"{r.getMessage()}{r.args!r}{r.msg!r}{r.exc_text!r}" for r in caplog.records)
    assert "cannot be asked about tokens" in everything, "so the log was listening"
    assert {"hypercorn", "httpcore2"} & {r.name.split(".")[0] for r in caplog.records} or "httpx2" in everything
    assert not [piece for piece in pieces if piece in everything]


async def test_errors_of_the_server_itself_show_none(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker, the ticket store and the check of a token break, each with a credential in hand."""
    caplog.set_level(logging.DEBUG)
    async with issuing() as issuer, configured_server(settings_of(IssuerSettings(url=issuer.url))) as server:
        good = issuer.signed({"jti": MARKER, "scope": "hybrid:subscribe:* hybrid:publish:*"})
        bearer = {"Authorization": f"Bearer {good}"}
        ticket = "TicketThatMustNotBeSeen".ljust(43, "x")

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(server.engine.broker, "append", broken)
        monkeypatch.setattr(server.engine.broker, "history", broken)
        monkeypatch.setattr(server.engine.tickets, "redeem_session", broken)
        monkeypatch.setattr(server.engine.tickets, "open_channels", broken)
        monkeypatch.setattr(server.engine.tickets, "issue", broken)
        said = []
        wanted = json.dumps({"purpose": "channels", "channels": ["a"]}).encode()
        for method, target, headers, body in (
            ("POST", "/v1/channels/a", {**bearer, **JSON_BODY}, b"1"),
            ("GET", "/v1/history/a", bearer, b""),
            ("GET", f"/v1/stream?ticket={ticket}", EVENTS, b""),
            ("GET", f"/v1/channels/a?ticket={ticket}", EVENTS, b""),
            ("POST", "/v1/ticket", {**bearer, **JSON_BODY}, wanted),
        ):
            answer = await call(server, method, target, headers, body)
            assert (answer.status, answer.name) == (500, "internal"), target
            said.append(repr(answer))
        monkeypatch.setattr(server.engine.verifier, "verify", broken)
        monkeypatch.setattr(server.engine.verifier, "cached", lambda *_: None)
        answer = await call(server, "GET", "/v1/history/a", bearer)
        assert (answer.status, answer.name) == (500, "internal")
        said.append(repr(answer))
        for target in ("/v1/stream", "/v1/channels/a"):
            async with websocket(server, target) as socket:
                socket.send(text({"method": "auth", "token": good}))
                code, reason = await socket.close_code()
                assert code == 4450
                said.append(reason)
    everything = "".join(f"{r.getMessage()}{r.args!r}{r.msg!r}{r.exc_text!r}" for r in caplog.records)
    assert everything.count("broken on purpose") >= 8, "so the log was listening"
    for piece in (*(piece[-24:] for piece in good.split(".")), MARKER, ticket, "TicketThatMustNotBeSeen"):
        assert piece not in everything
        assert not any(piece in answer for answer in said)
