"""The site of the documentation: it builds strictly, is whole, fits a phone, and asks nothing of other hosts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hybrid.cli import build_parser
from hybrid.protocol.routes import ROUTES
from tests.support.chromium import find_chromium, open_browser
from tests.support.nodes import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs: `make .venv/.documented` installs it"
)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, f"add a new page to `nav` in mkdocs.yml; all that was said:\n{built.stderr}"
    return folder


class Loaded(HTMLParser):
    """What a browser loads by itself with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.urls.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.urls.append(given.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert [url for url in loaded.urls if "//" in url] == [], page
    for sheet in [*site.rglob("*.css"), *site.rglob("bundle*.js")]:
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|iframe-worker/shim", sheet.read_text()), sheet


def test_the_reference_is_made_from_the_code(site: Path) -> None:
    commands = (site / "cli.html").read_text()
    [choices] = [
        action.choices for action in build_parser()._actions if action.dest == "==SUPPRESS==" and action.choices
    ]
    for name in choices:
        assert f"usage: hybrid {name}" in commands
    routes = (site / "http-api.html").read_text()
    assert all(route.path in routes for route in ROUTES)
    javascript = (site / "javascript-api.html").read_text()
    declared = re.findall(r"^export \w+ (\w+)", (ROOT / "static/hybrid/index.d.ts").read_text(), re.MULTILINE)
    assert len(declared) > 20
    for name in declared:
        assert re.search(rf"\b{name}\b", javascript), name
    python = (site / "python-api.html").read_text()
    for name in ("publish_many", "HybridMiddleware", "get_token", "retry_after_s"):
        assert name in python
    schemas = (site / "schemas" / "index.html").read_text()
    assert all(f'id="{path.stem}"' in schemas for path in (ROOT / "docs" / "schemas").glob("*.json"))
    assert "hybrid serve --app app:app" in (site / "examples" / "chat" / "index.html").read_text()
    assert "worker_shutdown_timeout" in (site / "nginx-conf.html").read_text()


@pytest.mark.parametrize(
    ("link", "fault"),
    [("[there](other.md)", ""), ("[gone](nowhere.md)", "nowhere.md"), ("[gone](other.md#nowhere)", "#nowhere")],
)
def test_a_broken_link_fails(tmp_path: Path, link: str, fault: str) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Here\n\n{link}\n")
    (docs / "other.md").write_text("# There\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nextra_css: []\nplugins: []\n"
                      "nav: [index.md, other.md]\n")  # fmt: skip
    built = build(config, tmp_path / "site")
    assert (built.returncode != 0) is bool(fault), built.stderr
    assert fault in built.stderr


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_pages_in_a_browser(tmp_path: Path, site: Path) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs chromium: no chromium, chromium-browser or google-chrome on the path")
    with served(site) as url:
        async with asyncio.timeout(60), open_browser(chromium, tmp_path / "profile") as page:
            for name, width in (("states", 390), ("comparison", 390), ("python-api", 390), ("index", 1300)):
                await page.open(f"{url}/{name}.html", width=width, height=800, scheme="dark")
                await page.until(f"document.readyState === 'complete' && location.pathname === '/{name}.html'")
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
                await page.until("document.body.dataset.mdColorScheme === 'slate'")
                pictures = "[...document.querySelectorAll('article img')]"
                await page.until(f"{pictures}.every((img) => img.complete && img.naturalWidth)")
            await page.evaluate("document.querySelector('#__search').checked = true")
            await page.type(".md-search__input", "idempotency")
            await page.until("document.querySelectorAll('.md-search-result__item').length > 1")
            assert page.errors == []
            assert [asked for asked in page.requested if not asked.startswith((url, "data:"))] == []
