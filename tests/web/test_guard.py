"""Host and Origin are checked on the application's own routes too; probes may come under any name."""

from __future__ import annotations

import pytest

from hybrid.settings import Settings
from hybrid.web.app import create_app

SETTINGS = Settings(
    development_issuer=True, allowed_hosts=("hybrid.example",), allowed_origins=("https://app.example",)
)


async def status(path: str, headers: dict[str, str], *, method: str = "GET") -> int:
    response = await create_app(SETTINGS).test_client().open(path, method=method, headers=headers)
    return int(response.status_code)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "hybrid.example"}, 200),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "hybrid.example", "Origin": "https://app.example"}, 200),
        ({"Host": "hybrid.example", "Origin": "https://evil.example"}, 403),
        ({"Host": "hybrid.example", "Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/dev-issuer/jwks.json", "/.well-known/oauth-protected-resource"])
async def test_own_routes_are_guarded(path: str, headers: dict[str, str], expected: int) -> None:
    assert await status(path, headers) == expected


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_may_come_under_any_name(path: str) -> None:
    assert await status(path, {"Host": "10.0.0.7"}) == 200


async def test_a_page_of_another_site_gets_no_token() -> None:
    """A name that was rebound to this machine could otherwise fetch one from the development issuer."""
    assert await status("/dev-issuer/token", {"Host": "rebound.example"}, method="POST") == 403


async def test_the_browser_client_is_served() -> None:
    assert await status("/static/hybrid/index.js", {"Host": "hybrid.example"}) == 200
