"""python-socketio on uvicorn."""

from __future__ import annotations

import re
from pathlib import Path

from tests.bench.peers import install
from tests.bench.peers.base import AUDIENCE, HEARTBEAT_S, ISSUER, ROOM, Absent, Peer, told
from tests.bench.peers.socketio_wire import CANNOT, PUBLISHING, WEBSOCKET
from tests.bench.process import Running, Server


class PythonSocketIo(Peer):
    name = "python-socketio"
    says = (
        "uvicorn with uvloop, httptools and websockets (`uvicorn[standard]`), without access log and compression; the"
        " client connects over WebSocket alone and shows its JSON Web Token (HS256, remembered once it was verified) in"
        " `auth`; it is put into the room when it connects. Its application, an ASGI callable in the same process,"
        " takes an HTTP `POST` and emits to the room"
    )
    sources = (
        "https://python-socketio.readthedocs.io/en/latest/server.html#uvicorn-and-other-asgi-web-servers",
        "https://python-socketio.readthedocs.io/en/latest/server.html#connect-and-disconnect-events",
        "https://uvicorn.dev/installation/",
    )
    cannot = CANNOT
    dialects = (WEBSOCKET,)
    publishing = PUBLISHING

    def version(self) -> str:
        python = install.PYTHON / "bin" / "python"
        if not python.exists():
            raise Absent(f"needs python-socketio, which could not be installed: pip install -r {install.REQUIREMENTS}")
        frozen = told(str(python), "-m", "pip", "freeze", "--disable-pip-version-check")
        wanted = r"^(python-socketio|python-engineio|uvicorn|uvloop|httptools|websockets)==(.*)$"
        return ", ".join(f"{name} {number}" for name, number in re.findall(wanted, frozen, re.MULTILINE))

    def start(self, core: int | None, folder: Path) -> Running:
        order = {
            "core": core,
            "secret": self.secret,
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "room": ROOM,
            "heartbeat_s": HEARTBEAT_S,
        }
        script = Path(__file__).parent / "servers" / "uvicorn_socketio.py"
        return Server(self.name, order, command=[str(install.PYTHON / "bin" / "python"), str(script)])
