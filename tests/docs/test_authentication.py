"""docs/authentication.md: what it shows in Python runs, and does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hybrid.auth.details import TYPE, details_to_grants
from hybrid.model import ANONYMOUS, Principal

PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()


def block(language: str, holding: str) -> str:
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in text]
    return str(found)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "docs/authentication.md", "exec"), names)
    return names


async def test_the_hooks() -> None:
    names = run(block("python", "def grants"))
    alice = Principal(issuer="i", subject="alice")
    assert [grant.pattern for grant in await names["grants"](alice, {})] == ["room:lobby", "room:staff"]
    assert names["authorise"](alice, "publish", "room:staff") is False
    assert names["authorise"](alice, "subscribe", "room:staff") is None
    assert names["app"].extensions["hybrid"]


async def test_the_session_cookie() -> None:
    names = run(block("python", "def signed_in"))
    assert names["signed_in"]({}) is None
    client = names["app"].test_client()
    answer = await client.post("/sign-in", headers={"Host": "127.0.0.1:8000"}, scheme="https")
    assert answer.headers["Set-Cookie"].startswith("__Host-session=")
    assert "Secure; HttpOnly; Path=/; SameSite=Lax" in answer.headers["Set-Cookie"]
    principal = names["signed_in"]({"user": "kim"})
    assert principal.grants[0].pattern == "user:kim"
    assert principal != ANONYMOUS


def test_the_authorization_details() -> None:
    shown = json.loads(block("json", TYPE))
    grants = details_to_grants([shown], {"sub": "kim", "client_id": ""})
    assert {grant.pattern for grant in grants} == {"chat:*", "user:kim"}


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_the_settings(text: str, tmp_path: Path) -> None:
    from hybrid.settings import load

    path = tmp_path / "hybrid.toml"
    path.write_text(text)
    assert load(str(path), {"HYBRID_INTROSPECTION_SECRET": "x"}).issuers[0].client_id == "hybrid"
