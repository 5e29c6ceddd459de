"""Centrifugo, with its memory engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.bench.dialects import EVENTS, UPGRADE, Dialect, Publishing, events, frames, literal
from tests.bench.peers import install
from tests.bench.peers.base import AUDIENCE, HEARTBEAT_S, ISSUER, ROOM, Peer, executable, told
from tests.bench.peers.daemon import Daemon
from tests.bench.process import Running
from tests.support.processes import free_port

_HINT: Final = "go install github.com/centrifugal/centrifugo/v6@v6.9.1"
_DOCS: Final = "https://centrifugal.dev/docs/"
_CONNECT: Final = literal('{"id":1,"connect":{"token":"TOKEN"}}\n{"id":2,"subscribe":{"channel":"ROOM"}}')
_UNIDIRECTIONAL: Final = quote('{"token":"TOKEN","subs":{"ROOM":{}}}')


def _filled(text: str) -> str:
    return text.replace("ROOM", ROOM).replace("TOKEN", "{token}")


class Centrifugo(Peer):
    name = "Centrifugo"
    says = (
        "memory engine, the JSON protocol of its client libraries over WebSocket and unidirectional SSE, no history (so"
        " no recovery, which spares it work), the write buffer pool and small read buffers that its documentation names"
        " against memory, errors alone in the log. A client shows a JSON Web Token (HS256), which is verified each"
        " time; publishing is `POST /api/publish` with an API key"
    )
    sources = (
        _DOCS + "server/authentication",
        _DOCS + "transports/websocket",
        _DOCS + "transports/uni_sse",
        _DOCS + "server/server_api",
    )
    dialects = (
        Dialect(
            "websocket",
            f"GET /connection/websocket HTTP/1.1\r\nHost: {{host}}\r\n{UPGRADE}\r\n",
            _filled(_CONNECT),
            b'"subscribe":{',
            frames,
        ),
        Dialect(
            "sse",
            f"GET /connection/uni_sse?cf_connect={_filled(_UNIDIRECTIONAL)} HTTP/1.1\r\nHost: {{host}}\r\n{EVENTS}\r\n",
            "",
            b'"connect":{',
            events,
        ),
    )
    publishing = Publishing(
        "POST /api/publish HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {token}\r\nContent-Type: application/json\r\n"
        "Content-Length: {length}\r\n\r\n",
        before=b'{"channel":"%b","data":"' % ROOM.encode(),
        after=b'"}',
    )

    def version(self) -> str:
        program = self._program()
        return told(program, "version") + install.built(program)

    def publishers(self, count: int) -> list[str]:
        return [self.secret] * count  # the API has one key

    def start(self, core: int | None, folder: Path) -> Running:
        port, internal_port = free_port(), free_port()
        configuration = {
            "http_server": {
                "address": "127.0.0.1",
                "port": str(port),
                "internal_address": "127.0.0.1",
                "internal_port": str(internal_port),
            },
            "log": {"level": "error"},
            "client": {
                "token": {"hmac_secret_key": self.secret, "audience": AUDIENCE, "issuer": ISSUER},
                "ping_interval": f"{HEARTBEAT_S}s",
            },
            "channel": {"without_namespace": {"allow_subscribe_for_client": True}},
            "websocket": {"use_write_buffer_pool": True, "read_buffer_size": 512},
            "uni_sse": {"enabled": True},
            "http_api": {"key": self.secret, "external": True},
            "debug": {"enabled": True},
        }
        (folder / "config.json").write_text(json.dumps(configuration))
        command = [self._program(), "-c", str(folder / "config.json")]
        collector = f"http://127.0.0.1:{internal_port}/debug/pprof/heap?gc=1"
        return Daemon(self.name, command, core, folder, port, collector=collector)

    def _program(self) -> str:
        return executable("centrifugo", _HINT, install.GO, install.ZOO_GO)
