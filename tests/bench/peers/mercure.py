"""Mercure, the hub that is a build of Caddy."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from tests.bench.dialects import EVENTS, TOKEN, Dialect, Publishing, events
from tests.bench.peers import install
from tests.bench.peers.base import ROOM, Peer, executable, told
from tests.bench.peers.daemon import Daemon
from tests.bench.process import Running
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
{{
	admin 127.0.0.1:{admin_port}
	auto_https off
	persist_config off
	log {{
		level ERROR
	}}
}}
http://:{port} {{
	bind 127.0.0.1
	mercure {{
		publisher_jwt {secret}
		subscriber_jwt {secret}
		{transport}
		write_timeout 0s
		dispatch_timeout 0s
	}}
	respond "Not Found" 404
}}
"""
_HINT: Final = "put mercure, the hub of https://mercure.rocks/docs/hub/install, on the PATH"
_CONFIG: Final = "https://mercure.rocks/docs/hub/config"
_TYPE: Final = "application/x-www-form-urlencoded"


class Mercure(Peer):
    name = "Mercure"
    says = (
        "the `local` transport, which keeps no history (so no recovery, which spares it work), no access log, and"
        " neither of its two time limits for writing, which close the connections of clients on a busy machine. Clients"
        " and publishers show a JSON Web Token (HS256), which is verified each time; a publication is public, a form in"
        " a `POST`"
    )
    sources: ClassVar[tuple[str, ...]] = (
        _CONFIG,
        "https://mercure.rocks/docs/hub/load-test",
        "https://mercure.rocks/spec",
    )
    cannot = "it has event streams alone"
    dialects = (
        Dialect("sse", f"GET /.well-known/mercure?topic={ROOM} HTTP/1.1\r\n{TOKEN}{EVENTS}\r\n", "", b":\n", events),
    )
    publishing = Publishing(
        f"POST /.well-known/mercure HTTP/1.1\r\n{TOKEN}Content-Type: {_TYPE}\r\nContent-Length: {{length}}\r\n\r\n",
        before=f"topic={ROOM}&data=%22".encode(),
        after=b"%22",
    )

    transport = "transport local"

    def version(self) -> str:
        program = self._program()
        return f"Mercure on Caddy {told(program, 'version')}{install.built(program)}"

    def subscribers(self, count: int) -> list[str]:
        return [self._mint(f"user-{number}", mercure={"subscribe": [ROOM]}) for number in range(count)]

    def publishers(self, count: int) -> list[str]:
        return [self._mint(f"publisher-{number}", mercure={"publish": [ROOM]}) for number in range(count)]

    def start(self, core: int | None, folder: Path) -> Running:
        port, admin_port = free_port(), free_port()
        (folder / "Caddyfile").write_text(
            _CONFIGURATION.format(port=port, admin_port=admin_port, secret=self.secret, transport=self.transport)
        )
        places = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        return Daemon(
            self.name,
            [self._program(), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"],
            core,
            folder,
            port,
            collector=f"http://127.0.0.1:{admin_port}/debug/pprof/heap?gc=1",
            environment=places,
        )

    def _program(self) -> str:
        return executable("mercure", _HINT, install.GO)


class MercureOnBolt(Mercure):
    name = "Mercure, Bolt"
    says = (
        "the same with its default transport, which keeps publications in a file, here the last 1,000; it writes them"
        " one after the other, so that all clients get them in one order"
    )
    sources = (_CONFIG,)
    transport = "transport bolt {\n\t\t\tpath mercure.db\n\t\t\tsize 1000\n\t\t}"
