"""docs/webhooks.md: its examples are what really stands on the wire, and its programs and backends run."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from hybrid.client.client import Client
from hybrid.errors import HybridError
from hybrid.hooks.messages import EVENTS, Answer, CallAnswer
from hybrid.hooks.signature import Signer, read_secret
from hybrid.limits import Limits
from hybrid.settings import HooksSettings, IssuerSettings, Namespace, Settings, load
from hybrid.settings.hooks import TOLD
from tests.support.configured import configured_server, settings_of
from tests.support.http_issuer import http_issuer, jwks_url
from tests.support.nodes import ROOT
from tests.support.processes import Process, free_port, program
from tests.support.receiver import SECRET, Request, receiver
from tests.support.server import AUDIENCE, RunningServer

PAGE = (ROOT / "docs" / "webhooks.md").read_text()
SHOWN_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LIMITS = Limits(channel_linger_s=0.25, session_kept_s=0.25)


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def example(language: str) -> str:
    [found] = examples(language)
    return str(found)


def shape(value: Any) -> Any:
    """What a value is made of; words that stand for themselves stay."""
    if isinstance(value, dict):
        fixed = ("ask", "type", "name", "channel", "reason", "transport", "data", "key", "subject")
        return {key: item if key in fixed else shape(item) for key, item in value.items() if key != "claims"}
    return type(value).__name__


async def test_the_questions_and_events_are_as_they_stand_there() -> None:
    def answer(request: Request) -> Any:
        return {"result": 1} if request.json["ask"] == "call" else {"allow": True}

    room = Namespace("room", subscribe="hook", publish="hook")
    with http_issuer(AUDIENCE) as issuer:
        async with receiver() as backend:
            backend.answer = answer
            hooks = HooksSettings(url=backend.url, secrets=(SECRET,), connect=True, calls=("shop.*",), tell=EVENTS)
            settings = settings_of(IssuerSettings(issuer.issuer, jwks_url=jwks_url(issuer)), limits=LIMITS)
            settings = replace(settings, hooks=hooks, namespaces={"room": room})
            async with configured_server(settings) as server:
                token = issuer.mint("ada", "")
                async with Client(server.url, lambda: token, "websocket") as client:
                    await client.subscribe("room:lobby")
                    await client.publish("room:lobby", 1)
                    await client.call("shop.buy", {"article": 7}, key="4f1c")
                await backend.until(lambda: len(backend.told) == 4)
    for item in backend.asked:
        assert shape(json.loads(example(f"json question {item['ask']}"))) == shape(item)
    assert {item["ask"] for item in backend.asked} == {"connect", "subscribe", "publish", "call"}
    for event in backend.told:
        assert shape(json.loads(example(f"json event {event['type']}"))) == shape(event)
    assert {event["type"] for event in backend.told} == set(EVENTS) == set(TOLD)
    assert shape({**json.loads(example("json batch"))}) == shape(backend.batches[0])


def test_the_answers_are_answers() -> None:
    answers = [msgspec.json.decode(text, type=Answer) for text in examples("json answer")]
    assert [answer.allow for answer in answers] == [True, True, False]
    for text in [*examples("json answer"), *examples("json call answer")]:
        assert json.loads(text).keys() <= set(Answer.__struct_fields__ + CallAnswer.__struct_fields__)
    calls = [msgspec.json.decode(text, type=CallAnswer) for text in examples("json call answer")]
    assert [call.error for call in calls] == ["", "sold out"]


def test_the_settings_are_settings(tmp_path: Path) -> None:
    path = tmp_path / "hybrid.toml"
    path.write_text("development_issuer = true\n" + example("toml"))
    settings = load(str(path), {"HYBRID_HOOKS_SECRETS": SECRET})
    assert settings.hooks.connect
    assert settings.namespaces["room"].publish == "hook"


def signed(body: bytes) -> dict[str, str]:
    import time

    return Signer([read_secret(SECRET), read_secret(SHOWN_SECRET)]).headers("msg_1", time.time(), body)


def test_the_check_in_python() -> None:
    names: dict[str, Any] = {}
    exec(compile(example("python"), "docs/webhooks.md", "exec"), names)
    assert names["check"](signed(b"{}"), b"{}")
    assert not names["check"](signed(b"{}"), b"[]")


CASES = [(signed, True), (lambda body: {**signed(body), "webhook-id": "msg_2"}, False), (lambda body: {}, False)]


@pytest.mark.parametrize(("headers", "is_good"), CASES)
def test_the_checks_in_node_and_php(tmp_path: Path, headers: Callable[[bytes], dict[str, str]], is_good: bool) -> None:
    import subprocess

    given, body = json.dumps(headers(b'{"a":1}')), '{"a":1}'
    script = tmp_path / "check.mjs"
    script.write_text(example("js") + f"\nconsole.log(check({given}, {json.dumps(body)}));\n")
    node = program("node")
    assert subprocess.run([node, str(script)], capture_output=True, text=True).stdout == f"{str(is_good).lower()}\n"
    if (php := shutil.which("php")) is not None:  # whether PHP is here is told by the test of its whole backend
        script = tmp_path / "check.php"
        call = f"echo json_encode(check(json_decode('{given}', true), '{body}')), \"\\n\";"
        script.write_text(f"<?php\n{example('php')}\n{call}\n")
        assert subprocess.run([php, str(script)], capture_output=True, text=True).stdout == f"{str(is_good).lower()}\n"


@asynccontextmanager
async def beside(backend: Process, port: int) -> AsyncIterator[RunningServer]:
    """A server with its own development issuer, and a backend of docs/examples beside it, both as documented."""
    hooks = load(str(ROOT / "docs/examples/backend-node/hybrid.toml"), {"HYBRID_HOOKS_SECRETS": SECRET})
    own = free_port()
    settings = Settings(
        port=own,
        development_issuer=True,
        limits=LIMITS,
        hooks=replace(hooks.hooks, url=f"http://127.0.0.1:{port}/"),
        namespaces=hooks.namespaces,
    )
    backend.environment = {"PORT": str(port), "HYBRID_URL": settings.public_url, "HYBRID_HOOKS_SECRET": SECRET}
    backend.launch()
    try:
        async with configured_server(settings) as server:
            yield server
    finally:
        backend.kill()


async def token_for(server: RunningServer, subject: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as http:
        form = {"grant_type": "client_credentials", "client_id": "cli", "subject": subject}
        answer = await http.post(f"{server.url}/dev-issuer/token", data=form)
        return str(answer.json()["access_token"])


async def until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def rules_hold(server: RunningServer) -> Client:
    """What both backends say; an open client of bob's."""
    with pytest.raises(HybridError) as caught:
        async with Client(server.url, lambda: token_for(server, "mallory"), "websocket") as client:
            await client.connected()
    assert caught.value.row.name == "forbidden_or_revoked"
    async with Client(server.url, lambda: token_for(server, "ada"), "sse") as ada:
        await ada.subscribe("room:staff")
    bob = Client(server.url, lambda: token_for(server, "bob"), "websocket")
    await bob.__aenter__()
    await bob.connected()
    for denied in (bob.subscribe("room:staff"), bob.publish("room:staff", 1)):
        with pytest.raises(HybridError, match="staff only"):
            await denied
    assert await bob.call("add", [1, 2, 3]) == 6
    return bob


async def test_the_backend_in_node(tmp_path: Path) -> None:
    port = free_port()
    backend = Process("node", [program("node"), str(ROOT / "docs/examples/backend-node/server.mjs")], tmp_path)
    async with asyncio.timeout(30), beside(backend, port) as server:
        await until_listening(port)
        bob = await rules_hold(server)
        try:
            heard = await bob.subscribe("room:lobby")
            said = await bob.call("shout", {"room": "room:lobby", "text": "hello"})
            publication = await anext(heard)
            assert publication.data == {"from": "bob", "text": "HELLO"}
            assert said["offset"] == publication.offset
            with pytest.raises(HybridError, match="not your room"):
                await bob.call("shout", {"room": "room:staff", "text": "hello"})
        finally:
            await bob.__aexit__(None, None, None)
        for line in ("connected bob", "occupied room:lobby", "disconnected bob left", "vacated room:lobby"):
            await backend.until(lambda line=line: said_by(backend, line), line)  # type: ignore[misc]
        async with httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"http://127.0.0.1:{port}/", content=b"{}")).status_code == 401


async def test_the_backend_in_php(tmp_path: Path) -> None:
    port = free_port()
    index = str(ROOT / "docs/examples/backend-php/index.php")
    backend = Process("php", [program("php", package="php-cli"), "-S", f"127.0.0.1:{port}", index], tmp_path)
    async with asyncio.timeout(30), beside(backend, port) as server:
        await until_listening(port)
        bob = await rules_hold(server)
        await bob.__aexit__(None, None, None)
        await backend.until(lambda: said_by(backend, "disconnected bob"), "the end of bob's session")


async def said_by(backend: Process, line: str) -> bool:
    return line in backend.output()
