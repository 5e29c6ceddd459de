"""The browser client, served by nginx as hybrid itself would serve it, and compressed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.support.nginx import HOST, ROOT, Change
from tests.support.proxied import proxied

SAME_HEADERS = (
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cache-control",
)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("hybrid/index.js", "text/javascript; charset=utf-8"),
        ("demo.css", "text/css; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
        ("favicon.svg", "image/svg+xml"),
        ("demo/fonts/inter-latin.woff2", "font/woff2"),
        ("demo/fonts/LICENSE-inter.txt", "text/plain; charset=utf-8"),
    ],
)
async def test_files_are_served_as_by_hybrid(name: str, media_type: str) -> None:
    async with proxied() as site, site.http() as http:
        answer = await http.get(f"/static/{name}", **site.named({"Accept-Encoding": "gzip"}))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.content == (ROOT / "static" / name).read_bytes()
        direct = await http.get(site.node.url + f"/static/{name}")
        for header in SAME_HEADERS:
            assert answer.headers[header] == direct.headers[header], header
        is_text = not name.endswith(".woff2") and int(direct.headers["content-length"]) >= 512  # less gains nothing
        assert answer.headers.get("content-encoding") == ("gzip" if is_text else None)
        assert not is_text or answer.headers["vary"] == "Accept-Encoding"
        assert '"node":""' in site.nginx.log("access")


async def test_a_file_that_did_not_change_is_not_sent_again() -> None:
    async with proxied() as site, site.http() as http:
        for encoding in ("gzip", "identity"):
            headers = {"Accept-Encoding": encoding}
            first = await http.get("/static/hybrid/index.js", **site.named(headers))
            again = await http.get(
                "/static/hybrid/index.js", **site.named({**headers, "If-None-Match": first.headers["etag"]})
            )
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == first.headers["etag"]


PACKED = gzip.compress(b"export const x = 1; // from the file beside it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Static files with names of all kinds, in a folder that nginx's workers may read."""
    static = tmp_path / "static"
    static.mkdir()
    tmp_path.chmod(0o755)
    (static / "a.mjs").write_bytes(b"export const x = 1; // " + b"x" * 2_000)
    (static / "a.mjs.gz").write_bytes(PACKED)
    for name in ("main-3f9c1d07.js", "main.3f9c1d07ab.css", "main-3f9c.js", "deadbeef00.js", "main-NOTHEX00.js"):
        (static / name).write_bytes(b"x")
    return tmp_path


async def test_what_is_compressed_beforehand_is_sent_as_it_is(folder: Path) -> None:
    """And .mjs is JavaScript; only names that change with their content may be kept for ever."""
    async with proxied(None, Change(f"root {ROOT};", f"root {folder};")) as site, site.http() as http:
        answer = await http.get("/static/a.mjs", **site.named({"Accept-Encoding": "gzip"}))
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["content-length"] == str(len(PACKED))
        assert answer.text.endswith("from the file beside it")
        plain = await http.get("/static/a.mjs", **site.named({"Accept-Encoding": "identity"}))
        assert len(plain.content) == 2_023
        for name, cached in (
            ("main-3f9c1d07.js", "public, max-age=31536000, immutable"),
            ("main.3f9c1d07ab.css", "public, max-age=31536000, immutable"),
            ("main-3f9c.js", "no-cache"),
            ("deadbeef00.js", "no-cache"),
            ("main-NOTHEX00.js", "no-cache"),
        ):
            assert (await http.get(f"/static/{name}", **site.named())).headers["cache-control"] == cached, name


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/hybrid",
        "/static/hybrid/",
        "/static/none.js",
        "/static/hybrid/package.json",
        "/static/hybrid/index.d.ts",
        "/static/../nginx.conf",
        "/static/..%2fnginx.conf",
        "/static/%2e%2e/README.md",
        "/static/../hybrid/__init__.py",
        "/static/.hidden.js",
        "/static/.git/x.js",
        "/static/hybrid/index.js/x.js",
        "/static//hybrid/index.js",
        "/staticx/hybrid/index.js",
    ],
)
async def test_nothing_else_is_a_file(path: str) -> None:
    async with proxied() as site:
        status, _, _ = await site.raw(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode(), source="127.0.0.2"
        )
        assert status == 404


@pytest.mark.parametrize(("method", "expected"), [("HEAD", 200), ("POST", 403), ("DELETE", 403), ("PUT", 403)])
async def test_files_are_only_read(method: str, expected: int) -> None:
    async with proxied() as site, site.http() as http:
        assert (await http.request(method, "/static/hybrid/index.js", **site.named())).status_code == expected


async def test_answers_of_hybrid_are_not_compressed() -> None:
    """A secret beside what a stranger wrote would tell itself by its length (BREACH)."""
    async with proxied() as site, site.http() as http:
        for _ in range(20):
            await site.publish("chat:lobby", "x" * 1_000)
        for path in ("/v1/history/chat:lobby", "/v1/channels/chat:lobby?after=0"):
            headers = {**site.bearer(), "Accept-Encoding": "gzip, deflate, br"}
            answer = await http.get(path, **site.named(headers))
            assert len(answer.content) > 20_000
            assert "content-encoding" not in answer.headers
