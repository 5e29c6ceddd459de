"""The files of the page: whole, typed, and asked for again by an ETag that all nodes agree on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from quart import Quart
from quart import typing as quart_typing

from hybrid.web.static import static_blueprint


def client(folder: Path) -> quart_typing.TestClientProtocol:
    app = Quart("test", static_folder=None)
    app.register_blueprint(static_blueprint(folder))
    return app.test_client()


def made(folder: Path, mtime: float) -> Path:
    (folder / "inner").mkdir(parents=True)
    for name in ("a.js", "inner/b.css", "secret.toml", ".hidden"):
        (folder / name).write_text(f"content of {name}")
        os.utime(folder / name, (mtime, mtime))
    return folder


async def test_the_etag_is_of_the_content_so_that_nodes_agree(tmp_path: Path) -> None:
    """It was of the file's time and path: behind a balancer every other request was answered in full."""
    one, other = made(tmp_path / "one", 1_000), made(tmp_path / "other", 2_000)
    first = await client(one).get("/static/a.js")
    assert (first.status_code, first.content_type) == (200, "text/javascript; charset=utf-8")
    assert await first.get_data() == b"content of a.js"
    again = await client(other).get("/static/a.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, await again.get_data()) == (304, b"")
    (other / "a.js").write_text("changed")
    changed = await client(other).get("/static/a.js", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200


async def test_a_part_of_a_file(tmp_path: Path) -> None:
    answer = await client(made(tmp_path / "one", 1_000)).get("/static/a.js", headers={"Range": "bytes=8-9"})
    assert (answer.status_code, await answer.get_data()) == (206, b"of")


@pytest.mark.parametrize(
    "name",
    ["secret.toml", ".hidden", "inner", "inner/", "none.js", "../x.js", "..%2Fone%2Fa.js", "a%00.js", "inner/../a.md"],
)
async def test_nothing_else_is_served(tmp_path: Path, name: str) -> None:
    assert (await client(made(tmp_path / "one", 1_000)).get(f"/static/{name}")).status_code == 404
