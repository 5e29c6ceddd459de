"""The commands of docs/development-issuer.md, run exactly as they are printed but for the port."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from hybrid.auth.development import RESOURCE_CLIENT, RESOURCE_SECRET, Bounds
from hybrid.auth.development.issuer import LIFETIME_S
from hybrid.settings import Settings
from tests.support.nodes import ROOT
from tests.support.processes import free_port
from tests.web.test_js_client import serving

PAGE = (ROOT / "docs" / "development-issuer.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("bash", "curl", "openssl", "python3")), reason="needs curl and openssl"
)


@needs_tools
async def test_the_commands_do_what_the_page_says(tmp_path: Path) -> None:
    port = free_port()
    script = "set -eu\n" + "\necho; echo ---\n".join(BLOCKS)
    async with serving(Settings(development_issuer=True, port=port), port) as bound:
        assert bound == port
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    said = [part.split() for part in out.decode().split("---\n")]
    setup, credentials, code, refresh, active, revoked, device, metadata = said
    assert setup == []
    assert read(credentials)["sub"] == read(code)["sub"] == read(refresh)["sub"] == "ada"
    assert read(code)["refresh_token"] != read(refresh)["refresh_token"]
    assert read(active)["active"] is True
    status, inactive = "".join(revoked).split("200")
    assert (json.loads(status), json.loads(inactive)) == ({}, {"active": False})
    assert device[0].startswith(f"http://127.0.0.1:{port}/dev-issuer/device?user_code=")
    assert read(device[1:])["error"] == "authorization_pending"
    assert f"http://127.0.0.1:{port}/dev-issuer/authorize" in " ".join(metadata)
    assert '"keys"' in " ".join(metadata)


def read(words: list[str]) -> dict[str, object]:
    """A JSON object of which the white space does not matter, out of the words of an answer."""
    document: dict[str, object] = json.loads(" ".join(words))
    return document


def test_the_figures_are_those_of_the_code() -> None:
    bounds = Bounds()
    assert (LIFETIME_S, bounds.code_lifetime_s, bounds.device_lifetime_s) == (15 * 60, 60, 10 * 60)
    assert bounds.refresh_lifetime_s == 24 * 3_600
    assert (bounds.guesses_max, bounds.guesses_window_s, bounds.device_interval_s) == (10, 60, 5)
    for said in (
        "JWTs (RFC 9068) of 15 minutes",
        "A code lives a minute, a device code ten, a refresh token a day from its making",
        "ten a minute from everybody together",
        "more than every five seconds",
        f"`{RESOURCE_CLIENT}`",
        f"`{RESOURCE_SECRET}`",
    ):
        assert said in PAGE
