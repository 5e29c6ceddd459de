"""hybrid, and the textbook server of `make bench`: see tests/bench/server.py."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.clock import SystemClock
from tests.bench.dialects import DIALECTS, PUBLISHING
from tests.bench.peers.base import AUDIENCE, ISSUER, TOKEN_S, Peer
from tests.bench.process import Running, Server


class Ours(Peer):
    """A kind of tests/bench/server.py. One issuer for all tokens."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self._issuer = DevelopmentIssuer(ISSUER, AUDIENCE, SystemClock())

    def start(self, core: int | None, folder: Path) -> Running:
        order: dict[str, Any] = {
            "jwks": self._issuer.jwks(),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "core": core,
        }
        return Server(self.kind, order)

    def _mint(self, subject: str, **more: object) -> str:
        return self._issuer.mint(subject, FULL_SCOPE, lifetime_s=TOKEN_S)


class Hybrid(Ours):
    name = kind = "hybrid"
    says = (
        "as `make bench` has it: Hypercorn and uvloop, a session over WebSocket and SSE in JSON, with recovery; a"
        " bearer token signed with ES256, remembered once it was verified. Its second SSE is a plain `GET` without a"
        " session"
    )
    sources = ("docs/performance.md",)
    dialects = DIALECTS["hybrid"]
    publishing = PUBLISHING["hybrid"]

    def version(self) -> str:
        return f"hybrid {version('hybrid-realtime')}, Hypercorn {version('hypercorn')}, uvloop {version('uvloop')}"


class Textbook(Ours):
    name = "textbook Quart"
    kind = "textbook"
    says = (
        "tests/bench/textbook.py: a queue for each client, an awaited `send` for each message, on Hypercorn and uvloop;"
        " the same tokens as hybrid, remembered too"
    )
    sources = ("https://quart.palletsprojects.com/en/latest/how_to_guides/websockets.html",)
    dialects = DIALECTS["textbook"]
    publishing = PUBLISHING["textbook"]

    def version(self) -> str:
        return f"Quart {version('quart')}, Hypercorn {version('hypercorn')}, uvloop {version('uvloop')}"
