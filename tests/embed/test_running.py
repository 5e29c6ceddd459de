"""An app with channels under the commands that people run: it starts, and at its end it says goodbye to its clients."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hybrid import Client
from hybrid.cli import main
from tests.support.processes import Process, free_port

APP = """
from quart import Quart
from starlette.applications import Starlette

from hybrid import Hybrid, HybridMiddleware, Settings

app = Quart(__name__)
hybrid = Hybrid(app)


@hybrid.rpc
async def waiting() -> int:
    return hybrid.engine.hub.stats().polls_waiting


@app.get("/")
async def page():
    await hybrid.publish("chat:lobby", "asked")
    return "mine"


@app.after_serving
async def say():
    print("the app has ended", flush=True)


def make():
    return app


def made(**options):
    hybrid = Hybrid(**options)

    @hybrid.rpc
    async def waiting() -> int:
        return hybrid.engine.hub.stats().polls_waiting

    return hybrid


outer = HybridMiddleware(Starlette(), made())
url = f"http://127.0.0.1:{hybrid.settings.port}/live"
told = Settings(development_issuer=True, port=hybrid.settings.port, public_url=url)
below = HybridMiddleware(Starlette(), made(settings=told), path="/live")
wrapped = Quart(__name__)
made(app=wrapped)
ours = wrapped.asgi_app


async def in_front(scope, receive, send):
    async def sent(message):
        await send(message)

    await ours(scope, receive, sent)


wrapped.asgi_app = in_front
plain = Quart(__name__)
"""
BIN = Path(sys.executable).parent
COMMANDS = {
    "hypercorn": [str(BIN / "hypercorn"), "--bind", "127.0.0.1:{port}", "site_of_ours:app"],
    "hypercorn-uvloop": [str(BIN / "hypercorn"), "-k", "uvloop", "--bind", "127.0.0.1:{port}", "site_of_ours:app"],
    "quart": [str(BIN / "quart"), "--app", "site_of_ours", "run", "--port", "{port}"],
    "uvicorn": [sys.executable, "-m", "uvicorn", "--port", "{port}", "site_of_ours:app"],
    "hybrid": [str(BIN / "hybrid"), "serve", "--port", "{port}", "--app", "site_of_ours:app"],
    "hybrid-factory": [str(BIN / "hybrid"), "serve", "--app", "site_of_ours:make()"],
    "middleware": [str(BIN / "hybrid"), "serve", "--app", "site_of_ours:outer"],
    "middleware-below": [str(BIN / "hybrid"), "serve", "--app", "site_of_ours:below"],
    "wrapped": [str(BIN / "hybrid"), "serve", "--app", "site_of_ours:wrapped"],
    "middleware-hypercorn": [str(BIN / "hypercorn"), "--bind", "127.0.0.1:{port}", "site_of_ours:outer"],
}
EVERY_DAY = {"hypercorn", "uvicorn", "hybrid"}


def site(folder: Path, command: list[str], **environment: str) -> tuple[Process, int]:
    pytest.importorskip("starlette", reason="needs starlette: it comes with fastapi")
    (folder / "site_of_ours.py").write_text(APP)
    port = free_port()
    told = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HYBRID_")},
        "HYBRID_DEVELOPMENT_ISSUER": "true",
        "HYBRID_PORT": str(port),
        "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[2]}",
        **environment,
    }
    return Process("site", [part.format(port=port) for part in command], folder, told), port


async def answers(url: str) -> bool:
    try:
        async with httpx2.AsyncClient() as http:
            return (await http.get(f"{url}/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


async def token(url: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": "cli", "subject": "kim"}
    async with httpx2.AsyncClient() as http:
        return str((await http.post(f"{url}/dev-issuer/token", data=form)).json()["access_token"])


@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=[] if name in EVERY_DAY else [pytest.mark.slow], id=name) for name in COMMANDS],
)
async def test_it_starts_and_says_goodbye(command: str, tmp_path: Path) -> None:
    process, port = site(tmp_path, COMMANDS[command])
    url = f"http://127.0.0.1:{port}" + ("/live" if "below" in command else "")
    process.launch()
    try:
        await process.until(lambda: answers(url))
        async with asyncio.timeout(20):
            clients = {name: Client(url, lambda: token(url), name) for name in ("websocket", "sse", "longpoll")}
            async with clients["websocket"], clients["sse"], clients["longpoll"]:
                readers = {name: await client.subscribe("chat:lobby") for name, client in clients.items()}
                # A poll that is on its way just now would find its connection closed: of the one that waits behind a
                # publication nothing is left to be heard.
                await clients["websocket"].publish("chat:lobby", 1)
                async for _ in readers["longpoll"]:
                    break
                while not await clients["websocket"].call("waiting"):
                    pass
                process.signal(signal.SIGTERM)
                for name, client in clients.items():
                    legs = client._session.legs
                    await legs.until(lambda legs=legs: legs.current is None)
                    [ended] = [event for event in client.log if event.what == "ended"][:1]
                    assert ended.number == 1012, (name, ended, process.report())
            while process.is_running:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a pid tells nobody of its end
        assert process.returncode in (0, -signal.SIGTERM), process.report()
        if "middleware" not in command and command != "wrapped":
            assert "the app has ended" in process.output()
        assert "Traceback" not in process.output(), process.report(200)
    finally:
        process.kill()


FIXED = """
from quart import Quart

from hybrid import Hybrid, Settings

app = Quart(__name__)
Hybrid(app, settings=Settings(development_issuer=True))
anywhere = Quart(__name__)
Hybrid(anywhere, settings=Settings(development_issuer=True, port=0))
plain = Quart(__name__)
"""


@pytest.mark.parametrize(
    ("app", "options", "says"),
    [
        ("fixed_site", [], "--app must read MODULE:NAME"),
        ("no_such_site:app", [], "There is no module no_such_site"),
        ("fixed_site.inside:app", [], "There is no module fixed_site.inside"),
        ("fixed_site:nothing", [], "has no nothing"),
        ("fixed_site:plain", [], "does not embed hybrid"),
        ("fixed_site:app", ["--port", "9"], "has settings of its own, in which port is 8000"),
        ("fixed_site:anywhere", [], "needs a port that is known"),
        ("fixed_site:app", [], ""),
    ],
)
def test_what_is_wrong_is_said(
    app: str, options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "fixed_site.py").write_text(FIXED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HYBRID_PORT", "8000")  # so that it is as before afterwards
    try:
        code = main(["serve", "--check", "--app", app, *options])
    finally:
        sys.modules.pop("fixed_site", None)
    out, err = capsys.readouterr()
    assert (code == 0) is (not says)
    assert (says in err) if says else (out == "hybrid: the settings are good\n")
