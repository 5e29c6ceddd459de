"""`HybridMiddleware` around FastAPI, Starlette and bare ASGI, under uvicorn and Hypercorn, by real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from hybrid import Client, Hybrid, HybridError, HybridMiddleware, Settings
from hybrid.errors import SettingsError
from hybrid.links.kept_request import KeptRequest
from hybrid.web import launcher
from tests.embed.apps import settings
from tests.support.asgi_servers import Serve, serve_uvicorn
from tests.support.processes import free_port

TRANSPORTS = ("websocket", "sse", "longpoll")
SERVERS: dict[str, Serve] = {"hypercorn": launcher.serve, "uvicorn": serve_uvicorn}


def fastapi(events: list[str], hybrid: Hybrid) -> Any:
    FastAPI = pytest.importorskip("fastapi", reason="needs fastapi: `make .venv/.tested` installs it").FastAPI

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await hybrid.publish("chat:events", "started")  # channels are there already
        events.append("started")
        yield
        await hybrid.publish("chat:events", "ended")  # and still
        events.append("ended")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def page() -> dict[str, str]:
        await hybrid.publish("chat:events", "asked")
        return {"page": "fastapi"}

    return app


def starlette(events: list[str], hybrid: Hybrid) -> Any:
    applications = pytest.importorskip("starlette.applications", reason="needs starlette: it comes with fastapi")
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def page(request: Any) -> Any:
        await hybrid.publish("chat:events", "asked")
        return JSONResponse({"page": "starlette"})

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("ended")

    return applications.Starlette(routes=[Route("/", page)], lifespan=lifespan)


def bare(events: list[str], hybrid: Hybrid) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("an application without a lifespan")
        await hybrid.publish("chat:events", "asked")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"page": "bare"}'})

    return app


FRAMEWORKS: dict[str, Callable[[list[str], Hybrid], Any]] = {
    "fastapi": fastapi,
    "starlette": starlette,
    "bare": bare,
}


@asynccontextmanager
async def served(app: Any, server: str, told: Settings) -> AsyncIterator[str]:
    """Serve an app, and stop it as SIGTERM would."""
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        SERVERS[server](
            app,
            host="127.0.0.1",
            port=told.port,
            limits=told.limits,
            shutdown_event=stop,
            on_started=bound.set_result,
        )
    )
    await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield f"http://127.0.0.1:{bound.result()}"
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_channels_and_pages_side_by_side(framework: str, server: str) -> None:
    events: list[str] = []
    told = settings(port=free_port())
    hybrid = Hybrid(settings=told)
    app = HybridMiddleware(FRAMEWORKS[framework](events, hybrid), hybrid)

    @hybrid.rpc
    async def double(n: int) -> int:
        return 2 * n

    async with asyncio.timeout(30):
        async with served(app, server, told) as url, httpx2.AsyncClient(base_url=url) as http:
            for transport in TRANSPORTS:
                async with Client(url, hybrid.test_token, transport) as client:
                    reading = await client.subscribe("chat:events")
                    assert (await http.get("/")).json() == {"page": framework}
                    assert (await anext(reading)).data == "asked"
                    assert await client.call("double", {"n": 21}) == 42
            assert (await http.get("/hybrid/index.js")).status_code == 200
            assert (await http.get("/readyz")).json() == {"status": "ready"}
            assert (await http.get("/nothing")).status_code == (200 if framework == "bare" else 404)
            assert (await http.get("/v1/nothing")).json()["name"] == "not_found"
            history = [item.data for item in await hybrid.history("chat:events")]
            assert history[0] == ("started" if framework == "fastapi" else "asked")
    assert events == ([] if framework == "bare" else ["started", "ended"])
    assert hybrid.engine.has_closed


@pytest.mark.parametrize("way", ["around", "mounted", "added"])
async def test_below_a_path(way: str) -> None:
    applications = pytest.importorskip("starlette.applications", reason="needs starlette: it comes with fastapi")
    from starlette.routing import Mount

    port = free_port()
    path = "" if way == "added" else "/live"
    told = settings(port=port, public_url=f"http://127.0.0.1:{port}{path}")
    hybrid = Hybrid(settings=told)
    if way == "around":
        app: Any = HybridMiddleware(applications.Starlette(), hybrid, path=path)
    elif way == "mounted":
        channels = HybridMiddleware(None, hybrid, path=path)
        app = applications.Starlette(routes=[Mount(path, app=channels)], lifespan=channels.lifespan)
    else:
        app = applications.Starlette()
        app.add_middleware(HybridMiddleware, hybrid=hybrid)
    async with asyncio.timeout(30), served(app, "uvicorn", told) as url:
        async with httpx2.AsyncClient(base_url=url) as http:
            assert (await http.get(f"{path}/readyz")).json() == {"status": "ready"}
            assert (await http.get("/")).status_code == 404
            if path:
                assert (await http.get("/v1/ping")).status_code == 404
                assert (await http.get(f"{path}/nothing")).status_code == 404
        for transport in TRANSPORTS:
            async with Client(f"{url}{path}", hybrid.test_token, transport) as client:
                reading = await client.subscribe("chat:a/b")
                await client.publish("chat:a/b", transport)
                assert (await anext(reading)).data == transport
        if way != "added":  # a middleware that Starlette adds is made when it is first called
            async with hybrid.test_client("bob", transport="sse") as client:
                assert len(await client.history("chat:a/b")) == 3


async def test_its_tests_need_no_sockets() -> None:
    events: list[str] = []
    hybrid = Hybrid(settings=settings())
    HybridMiddleware(fastapi(events, hybrid), hybrid)
    async with asyncio.timeout(10):
        async with hybrid.test_client("alice") as alice, hybrid.test_client("bob", transport="longpoll") as bob:
            assert events == ["started"]
            reading = await bob.subscribe("chat:events", history=1)
            await alice.publish("chat:events", 1)
            assert [(await anext(reading)).data for _ in range(2)] == ["started", 1]
    assert events == ["started", "ended"]


async def test_an_application_that_cannot_start_says_so() -> None:
    hybrid = Hybrid(settings=settings())
    applications = pytest.importorskip("starlette.applications", reason="needs starlette: it comes with fastapi")

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    HybridMiddleware(applications.Starlette(lifespan=lifespan), hybrid)
    with pytest.raises(RuntimeError, match="startup failed"):
        async with asyncio.timeout(10), hybrid.test_client():
            pass
    assert hybrid.engine.has_closed


def test_what_is_wrong_is_said() -> None:
    hybrid = Hybrid(settings=settings())
    with pytest.raises(SettingsError, match="public_url must end with the path '/live'"):
        HybridMiddleware(None, hybrid, path="/live")
    with pytest.raises(SettingsError, match="path must read like /live"):
        HybridMiddleware(None, hybrid, path="live/")
    told = replace(settings(), public_url="http://127.0.0.1:8000/live")
    with pytest.raises(SettingsError, match="public_url must end with the path ''"):
        HybridMiddleware(None, Hybrid(settings=told))


async def test_a_refusal_before_a_websocket_is_opened_is_told() -> None:
    hybrid = Hybrid(settings=settings())
    middleware = HybridMiddleware(None, hybrid)  # whose app is forgotten with it
    async with asyncio.timeout(10), hybrid.test_client("alice") as alice:
        await alice.connected()
        refused = Client("http://evil.example", hybrid.test_token, "websocket", app=hybrid.asgi)
        async with refused as client:
            with pytest.raises(HybridError, match="under that Host name"):
                await client.connected()
    del middleware


@pytest.mark.parametrize("path", ["", "/live"])
async def test_a_connection_of_short_requests_is_kept_below_a_path_as_well(path: str) -> None:
    port = free_port()
    told = settings(port=port, public_url=f"http://127.0.0.1:{port}{path}")
    hybrid = Hybrid(settings=told)
    channels = HybridMiddleware(bare([], hybrid), hybrid, path=path)
    served_by: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            served_by.append("us" if isinstance(getattr(receive, "__self__", None), KeptRequest) else "Hypercorn")
        await channels(scope, receive, send)

    async with asyncio.timeout(30), served(app, "hypercorn", told) as url, httpx2.AsyncClient(base_url=url) as http:
        for _ in range(3):
            assert (await http.get(f"{path}/v1/ping")).status_code == 200
        assert (await http.get("/v1/elsewhere" if path else "/readyz")).status_code == 200
    assert served_by[:3] == ["Hypercorn", "us", "us"]
    assert served_by[3] == "Hypercorn", "what is not ours went back"
