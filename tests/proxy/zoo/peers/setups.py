"""Which systems are compared, and how each is set up: as the documentation of the project says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[3]
MANIFEST: Final = HERE / "package.json"
GO_TOOLS: Final = HERE / "go-tools.txt"


@dataclass(frozen=True, slots=True)
class Setup:
    """One client with its server. `library` is the client's build for browsers, under `node_modules`.

    `says` is one sentence for the reader of the table.
    """

    name: str
    server: str
    client: str
    says: str
    library: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


_SOCKET_IO: Final = "socket.io-client/dist/socket.io.min.js"
_CENTRIFUGE: Final = "centrifuge/dist/centrifuge.js"

SETUPS: Final = {
    setup.name: setup
    for setup in (
        Setup(
            "Socket.IO",
            "socketio",
            "socketio",
            "as it comes, which is long polling first and then an upgrade to WebSocket. Connection state recovery of"
            " two minutes on the server; `retries: 3` and `ackTimeout: 10000` in the client, as its documentation has"
            " it for deliveries to the server at least once",
            _SOCKET_IO,
        ),
        Setup(
            "Socket.IO, WebSocket first",
            "socketio",
            "socketio",
            'the same with `transports: ["websocket", "polling"]` and `tryAllTransports: true`',
            _SOCKET_IO,
            {"transports": ["websocket", "polling"], "tryAllTransports": True},
        ),
        Setup(
            "Centrifugo",
            "centrifugo",
            "centrifugo",
            "as it comes, which is WebSocket alone. Memory engine; history of two minutes and `force_recovery` on the"
            " channel, and a `recovery_max_publication_limit` above the default of 300, which two minutes of this feed"
            " exceed. The feed is published over its HTTP API; the client publishes with `publish`, without repeating",
            _CENTRIFUGE,
            {"transports": []},
        ),
        Setup(
            "Centrifugo, with fallbacks",
            "centrifugo",
            "centrifugo",
            "the same with `websocket`, `http_stream` and `sse` in the order of its client's documentation, the latter"
            " two enabled on the server, with its bidirectional emulation",
            _CENTRIFUGE,
            {"transports": ["http_stream", "sse"]},
        ),
        Setup(
            "EventSource",
            "plain",
            "eventsource",
            "no library but the browser's, with `id:` and two minutes of history behind `Last-Event-ID` on the server;"
            " each message up is a `fetch` of its own, without repeating",
        ),
        Setup(
            "bare WebSocket",
            "plain",
            "websocket",
            "no library but the browser's, opened again a second after it closed; nothing is kept, either way",
        ),
    )
}

NOT_RUN: Final = {
    "SignalR": "its server is part of ASP.NET Core, of which neither Debian 12 nor npm, Go's modules or PyPI have a"
    " package (PyPI's `dotnetcore2` is a .NET without it). Servers of the same protocol by others, which lack some of"
    " its transports, would not be a fair stand-in",
    "Phoenix": "its server comes from Hex, which `mix local.hex` of Debian's Elixir 1.14 could not reach where this was"
    " measured",
}
"""What was to be compared and could not be run, and why."""


def versions() -> dict[str, str]:
    """The pinned versions, by package."""
    npm: dict[str, str] = json.loads(MANIFEST.read_text())["dependencies"]
    tools = (line.rpartition("@") for line in GO_TOOLS.read_text().split())
    return {**npm, **{path.split("/")[2]: version.removeprefix("v") for path, _, version in tools}}
