"""Where the operators' page is served: nowhere, unless the setting says so; and then whole, with its policy."""

from __future__ import annotations

import re

import pytest
from quart import Quart
from quart import typing as quart_typing

from hybrid import Hybrid
from hybrid.auth.development.clients import make_clients
from hybrid.auth.grants import ADMIN_SCOPE
from hybrid.settings import Settings
from hybrid.web.app import create_app
from hybrid.web.static import find_static_root

ROOT = find_static_root()
FILES = "/admin/files/"


def client(*, admin: bool) -> quart_typing.TestClientProtocol:
    return create_app(Settings(development_issuer=True, allowed_hosts=("localhost",), admin=admin)).test_client()


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/",
        "/admin/files/admin/main.js",
        "/static/admin/index.html",
        "/static/admin/main.js",
        "/static/demo/../admin/main.js",
        "/static/./admin/main.js",
    ],
)
async def test_it_is_not_there_unless_it_was_asked_for(path: str) -> None:
    assert (await client(admin=False).get(path)).status_code == 404


async def test_it_comes_with_its_policy_and_every_file_that_it_names() -> None:
    asking = client(admin=True)
    response = await asking.get("/admin")
    page = await response.get_data(as_text=True)
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in page
    assert "http:" not in page
    assert "https:" not in page
    named = set(re.findall(r'(?:href|src)="(admin/[^"]+)"', page))
    assert len(named) == 5
    for path in named:
        assert (await asking.get(f"/{path}")).status_code == 200, path
    imported = 0
    for module in (ROOT / "admin").glob("*.js"):
        for name in re.findall(r'^(?:import .*|\} )from "([^"]+)";$', module.read_text(encoding="utf-8"), re.MULTILINE):
            target = (module.parent / name).resolve().relative_to(ROOT.resolve()).as_posix()
            assert (await asking.get(FILES + target)).status_code == 200, (module.name, name)
            imported += 1
    assert imported > 20


@pytest.mark.parametrize(
    "name",
    [
        "admin/package.json",
        "admin",
        "index.html",
        "doctor.html",
        "hybrid/index.js",
        "demo/../index.html",
        "../static.py",
    ],
)
async def test_nothing_else_is_served_with_it(name: str) -> None:
    assert (await client(admin=True).get(FILES + name)).status_code == 404


async def test_with_a_slash_it_leads_to_the_page() -> None:
    response = await client(admin=True).get("/admin/")
    assert (response.status_code, response.headers["Location"]) == (302, "../admin")


async def test_an_unknown_host_gets_nothing_of_it() -> None:
    """As with all pages: a rebound name must not reach it."""
    assert (await client(admin=True).get("/admin", headers={"Host": "evil.example"})).status_code == 403


async def test_an_app_that_embeds_hybrid_has_it_beside_its_own_static() -> None:
    app = Quart("embedding")
    Hybrid(app, settings=Settings(development_issuer=True, allowed_hosts=("localhost",), admin=True))
    asking = app.test_client()
    assert (await asking.get("/admin")).status_code == 200
    assert (await asking.get(f"{FILES}demo/signin.js")).status_code == 200
    assert (await asking.get("/admin", headers={"Host": "evil.example"})).status_code == 403


def test_the_issuer_knows_it_only_where_it_is() -> None:
    pages = ("http://127.0.0.1:8000/",)
    assert "admin" not in make_clients("hybrid:subscribe:*", pages, "s")
    operator = make_clients("hybrid:subscribe:*", pages, "s", ADMIN_SCOPE)["admin"]
    assert operator.check_redirect_uri("http://127.0.0.1:8000/admin")
    assert not operator.check_redirect_uri("http://127.0.0.1:8000/")
    assert not operator.check_grant_type("client_credentials"), "nobody is an operator without a person who consents"
    assert operator.get_allowed_scope("hybrid:admin hybrid:revoke") == "hybrid:admin hybrid:revoke"
    assert operator.get_allowed_scope("hybrid:subscribe:*") is None
