from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from hybrid.broker.base import Appended
from hybrid.settings import Namespace, Settings
from hybrid.web import demo
from hybrid.web.app import create_app
from hybrid.web.demo import NAMESPACE, create_demo_app
from hybrid.web.feed import CPU, MEMORY, NETWORK
from hybrid.web.static import find_static_root


@pytest.fixture
def app() -> Quart:
    return create_demo_app(Settings(development_issuer=True, allowed_hosts=("localhost",)), feed_interval_s=0.001)


async def test_the_page_comes_with_its_policy(app: Quart) -> None:
    response = await app.test_client().get("/")
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-cache"
    assert "Expires" not in response.headers
    page = await response.get_data(as_text=True)
    assert "<noscript>" in page
    assert "style=" not in page
    assert "http:" not in page.replace("http://www.w3.org/", "")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("demo.css", "text/css; charset=utf-8"),
        ("demo/main.js", "text/javascript; charset=utf-8"),
        ("hybrid/index.js", "text/javascript; charset=utf-8"),
        ("favicon.svg", "image/svg+xml; charset=utf-8"),
        ("demo/fonts/inter-latin.woff2", "font/woff2"),
        ("demo/fonts/LICENSE-inter.txt", "text/plain; charset=utf-8"),
    ],
)
async def test_files_have_their_types_whatever_the_system_says(app: Quart, name: str, media_type: str) -> None:
    response = await app.test_client().get(f"/static/{name}")
    assert response.status_code == 200
    assert response.content_type in (media_type, media_type.removesuffix("; charset=utf-8"))
    assert response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/demo/package.json",
        "/static/../pyproject.toml",
        "/static/..%2Findex.html",
        "/static/%2e%2e/hybrid/web/static.py",
        "/static/demo",
        "/static/nothing.js",
        "/static/",
    ],
)
async def test_nothing_else_is_served(app: Quart, path: str) -> None:
    assert (await app.test_client().get(path)).status_code == 404


async def test_a_file_that_is_known_is_not_sent_again(app: Quart) -> None:
    client = app.test_client()
    etag = (await client.get("/static/demo.css")).headers["ETag"]
    response = await client.get("/static/demo.css", headers={"If-None-Match": etag})
    assert response.status_code == 304
    assert await response.get_data() == b""


async def test_every_file_the_page_names_is_there(app: Quart) -> None:
    """A module that is renamed in one place only would leave an empty page."""
    root = find_static_root()
    client = app.test_client()
    for module in (root / "demo").glob("*.js"):
        source = module.read_text(encoding="utf-8")
        for line in source.splitlines():
            if line.startswith("import ") or line.startswith("} from "):
                target = (module.parent / line.rsplit('"', 2)[1]).resolve().relative_to(root.resolve())
                assert (await client.get(f"/static/{target.as_posix()}")).status_code == 200, line
    page = (root / "index.html").read_text(encoding="utf-8")
    for path in [part.split('"')[0] for part in page.split('"/static/')[1:]]:
        assert (await client.get(f"/static/{path}")).status_code == 200, path


async def test_the_clock_is_never_cached() -> None:
    class Clock:
        def monotonic_s(self) -> float:
            return 0.0

        def wall_s(self) -> float:
            return 1_700_000_000.98765

    app = create_demo_app(Settings(development_issuer=True, allowed_hosts=("localhost",)), clock=Clock())
    response = await app.test_client().get("/demo/clock")
    assert await response.get_json() == {"at_ms": 1_700_000_000_987.6}
    assert response.headers["Cache-Control"] == "no-store"


async def test_the_feed_lives_as_long_as_the_app(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = app.extensions["hybrid"]
    publish = engine.publish
    channels: list[str] = []
    is_flowing = asyncio.Event()

    async def watched(channel: str, data: Any) -> Appended:
        appended: Appended = await publish(channel, data)
        channels.append(channel)
        if {CPU, MEMORY, NETWORK} <= set(channels):
            is_flowing.set()
        return appended

    monkeypatch.setattr(engine, "publish", watched)
    async with app.test_app():
        async with asyncio.timeout(10):
            await is_flowing.wait()
    assert len(asyncio.all_tasks()) == 1, "the feed has ended with the app"


async def test_a_machine_that_cannot_be_read_has_a_page_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def run_feed(*_: Any) -> None:
        ended.set()
        raise PermissionError("/proc is not for you")

    monkeypatch.setattr(demo, "run_feed", run_feed)
    app = create_demo_app(Settings(development_issuer=True, allowed_hosts=("localhost",)))
    with caplog.at_level(logging.ERROR, "hybrid.web.demo"):
        async with app.test_app():
            await ended.wait()
            assert (await app.test_client().get("/")).status_code == 200
    assert "feed has ended" in caplog.text


def test_a_namespace_of_ones_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def watched(settings: Settings, **rest: Any) -> Quart:
        seen.append(settings)
        return create_app(settings, **rest)

    monkeypatch.setattr(demo, "create_app", watched)
    own = Namespace("demo", history_size=7)
    create_demo_app(Settings(development_issuer=True, allowed_hosts=("localhost",), namespaces={"demo": own}))
    create_demo_app(
        Settings(development_issuer=True, allowed_hosts=("localhost",), namespaces={"news": Namespace("news")})
    )
    first, second = seen
    assert first.namespace_for(CPU) == own
    assert second.namespace_for(CPU) == NAMESPACE
    assert second.namespace_for("news:today") == Namespace("news")


def test_a_directory_of_ones_own_is_taken(tmp_path: Path) -> None:
    assert find_static_root(str(tmp_path)) == tmp_path
    assert (find_static_root() / "index.html").is_file()
