"""What docs/upgrading.md and docs/providers.md say of versions, headers and algorithms is so."""

from __future__ import annotations

from hybrid.auth.jwt import ALGORITHMS
from hybrid.broker.redis.keys import LAYOUT, Keys
from hybrid.protocol.codec import JSON
from hybrid.protocol.pushes import Push
from hybrid.protocol.routes import ROUTES
from hybrid.settings import IssuerSettings
from hybrid.transports import sse
from tests.support.nodes import ROOT


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_the_versions_are_those_of_the_code() -> None:
    assert f"layout {LAYOUT} | `{Keys('hybrid').layout.decode()}`" in page("upgrading")
    assert {route.path.split("/")[1] for route in ROUTES} == {"v1"}
    assert "POST /v1/drain" in {f"{route.method} {route.path}" for route in ROUTES}


def test_clients_ignore_what_they_do_not_know() -> None:
    """The rule by which fields and kinds are added; tests/faults/test_upgrade.py has the one between nodes."""
    assert JSON.decode_push(b'{"something": {"new": 1}}') == Push()
    assert JSON.decode_push(b'{"expiring": {"in_s": 60, "new": 1}, "new": 2}').expiring is not None


def test_the_algorithms_and_headers_are_those_of_the_code() -> None:
    rows = [row for row in page("providers").splitlines() if row.startswith("| `alg`") or "once `algorithms`" in row]
    usual, named = (set(row.split("|")[2].replace("`", "").replace(" or ", ", ").strip().split(", ")) for row in rows)
    assert usual == set(IssuerSettings("https://id.example.com").algorithms)
    assert usual | named == set(ALGORITHMS)
    headers = {name.decode(): value.decode() for name, value in sse._HEAD}
    assert f"Cache-Control: {headers['cache-control']}" in page("proxies")
