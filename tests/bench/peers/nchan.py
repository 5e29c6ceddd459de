"""Nchan, a module of nginx, in Debian's build."""

from __future__ import annotations

import getpass
import re
import secrets
from pathlib import Path
from typing import Final

from tests.bench.dialects import EVENTS, TOKEN, UPGRADE, Dialect, Publishing, bare_events, frames
from tests.bench.peers import install
from tests.bench.peers.base import ROOM, Peer, executable, told
from tests.bench.peers.daemon import Daemon
from tests.bench.process import Running
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
load_module {module};
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    {places}
    map_hash_max_size 65536;
    map_hash_bucket_size 128;
    map $http_authorization $subject {{
        default "";
        include {folder}/tokens;
    }}
    upstream application {{
        server unix:{folder}/application;
        keepalive 64;
    }}
    server {{
        listen unix:{folder}/application;
        keepalive_requests 100000;
        if ($subject = "") {{ return 403; }}
        return 204;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        keepalive_requests 100000;
        location = /auth {{
            internal;
            proxy_pass http://application/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
        location = /sub {{
            nchan_subscriber websocket eventsource;
            nchan_channel_id {room};
            nchan_authorize_request /auth;
            nchan_subscriber_first_message newest;
        }}
        location = /pub {{
            allow 127.0.0.1;
            deny all;
            nchan_publisher http;
            nchan_channel_id {room};
            nchan_message_buffer_length 50;
            nchan_message_timeout 5m;
        }}
    }}
}}
"""
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_DOCS: Final = "https://nchan.io/"


class Nchan(Peer):
    name = "Nchan"
    says = (
        "one nginx worker, memory storage, a buffer of 50 messages as in its documentation's example. A subscriber"
        " shows an opaque token of its own, and `nchan_authorize_request` asks an application, as cheap as one can be:"
        " a `map` in a second `server` of the same nginx, over connections that are kept. Only the loopback may publish"
        " (`allow`, `deny`), without a token"
    )
    sources = (_DOCS + "#publisher-endpoints", _DOCS + "#request-authorization", _DOCS + "#securing-channels")
    dialects = (
        Dialect("websocket", f"GET /sub HTTP/1.1\r\n{TOKEN}{UPGRADE}\r\n", "", b"", frames),
        Dialect("sse", f"GET /sub HTTP/1.1\r\n{TOKEN}{EVENTS}\r\n", "", b": hi", bare_events),
    )
    publishing = Publishing(
        "POST /pub HTTP/1.1\r\nHost: {host}\r\nAccept: text/json\r\nContent-Type: application/json\r\n"
        "Content-Length: {length}\r\n\r\n"
    )

    def __init__(self) -> None:
        super().__init__()
        self._known: list[str] = []

    def version(self) -> str:
        nginx = executable("nginx", "on Debian, apt install nginx libnginx-mod-nchan")
        found = re.search(r"nginx/(\S+)", told(nginx, "-v"))
        return f"Nchan {install.nchan_version()}, nginx {found.group(1) if found else 'of unknown version'}"

    def start(self, core: int | None, folder: Path) -> Running:
        nginx = executable("nginx", "on Debian, apt install nginx libnginx-mod-nchan")
        port = free_port()
        (folder / "tokens").write_text("".join(f'"Bearer {token}" {token[:8]};\n' for token in self._known))
        (folder / "nginx.conf").write_text(
            _CONFIGURATION.format(
                module=install.nchan_module(),
                user=getpass.getuser(),
                folder=folder,
                places=" ".join(f"{what}_temp_path {folder}/{what};" for what in _TEMPORARY),
                port=port,
                room=ROOM,
            )
        )
        command = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        return Daemon(self.name, command, core, folder, port)

    def _mint(self, subject: str, **more: object) -> str:
        token = secrets.token_urlsafe(32)
        self._known.append(token)
        return token
