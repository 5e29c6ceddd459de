"""Socket.IO on Node, over `ws` with its native add-ons and over uWebSockets.js."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from tests.bench.peers import install
from tests.bench.peers.base import AUDIENCE, HEARTBEAT_S, ISSUER, ROOM, Absent, Peer, executable
from tests.bench.peers.socketio_wire import CANNOT, PUBLISHING, WEBSOCKET
from tests.bench.process import Running, Server

_TUNING = "https://socket.io/docs/v4/performance-tuning/"


class SocketIo(Peer):
    name = "Socket.IO"
    says = (
        "Node with `ws`, its add-ons `bufferutil` and `utf-8-validate`, no compression (the default), and the first"
        " request of each connection let go; the client connects over WebSocket alone and shows its JSON Web Token"
        " (HS256, remembered once it was verified) in `auth`; it is put into the room when it connects. Its"
        " application, in the same process, takes an HTTP `POST` and emits to the room"
    )
    sources: ClassVar[tuple[str, ...]] = (
        _TUNING,
        "https://socket.io/docs/v4/middlewares/#sending-credentials",
        "https://socket.io/docs/v4/rooms/",
        "https://socket.io/how-to/use-with-jwt",
    )
    cannot = CANNOT
    dialects = (WEBSOCKET,)
    publishing = PUBLISHING
    engine = "ws"
    packages: ClassVar[tuple[str, ...]] = ("socket.io", "ws", "bufferutil", "utf-8-validate")

    def version(self) -> str:
        executable("node", "install Node 20 or later")
        return ", ".join(self._version(package) for package in self.packages)

    def start(self, core: int | None, folder: Path) -> Running:
        order = {
            "core": core,
            "engine": self.engine,
            "secret": self.secret,
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "room": ROOM,
            "heartbeat_s": HEARTBEAT_S,
        }
        node = executable("node", "install Node 20 or later")
        return Server(self.name, order, command=[node, "--expose-gc", str(install.NPM / "servers" / "socketio.mjs")])

    def _version(self, package: str) -> str:
        path = install.NPM / "node_modules" / package / "package.json"
        if not path.exists():
            raise Absent(f"needs npm's {package}, which could not be installed: npm install {package}")
        manifest = json.loads(path.read_text())
        told = f"{package} {manifest['version']}"
        return told if manifest["name"] == package else f"{told} ({manifest['name']}, which is another one's copy)"


class SocketIoOnUws(SocketIo):
    name = "Socket.IO, uWebSockets.js"
    says = "the same on uWebSockets.js, which takes the place of Node's HTTP server and of `ws`"
    sources = (_TUNING, "https://socket.io/docs/v4/server-installation/#usage-with-uwebsockets")
    engine = "uws"
    packages: ClassVar[tuple[str, ...]] = ("socket.io", "uWebSockets.js")

    def _version(self, package: str) -> str:
        try:
            return super()._version(package)
        except Absent:
            if package != "uWebSockets.js":
                raise
            raise Absent(
                "needs uWebSockets.js, which is not in npm's registry. As its documentation says: npm install --prefix"
                " .zoo/bench/npm --no-save uWebSockets.js@uNetworking/uWebSockets.js#v20.52.0"
            ) from None
