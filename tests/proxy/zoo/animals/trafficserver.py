"""Apache Traffic Server: the cache of large networks, in front of the origin."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, give_to, is_root, required, to_front
from tests.support.processes import free_port

# Programs and modules are the system's. The rest is relative to the folder in which it runs, because it reads and
# writes there as a user who may not look into the folders above.
_ROOT: Final = """\
prefix: .
exec_prefix: .
bindir: /usr/bin
sbindir: /usr/bin
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
includedir: /usr/include
datadir: .
sysconfdir: .
localstatedir: .
runtimedir: .
logdir: .
cachedir: .
"""
_RECORDS: Final = """\
CONFIG proxy.config.http.server_ports STRING {port}:ip-in={host}
CONFIG proxy.config.admin.user_id STRING {user}
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.reverse_proxy.enabled INT 1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.log.logging_enabled INT 0
"""
_ALLOWED: Final = """\
ip_allow:
  - apply: in
    ip_addrs: 127.0.0.1
    action: allow
    methods: ALL
"""
_USER: Final = "trafficserver"
_FILES: Final = ("storage.config", "plugin.config", "ssl_multicert.config", "hosting.config", "volume.config")


def _traffic_server(schemes: tuple[str, ...]) -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        target = f"{origin.host}:{origin.port}"
        (scratch / "runroot.yaml").write_text(_ROOT)
        (scratch / "records.config").write_text(_RECORDS.format(port=port, host=HOST, user=_user()))
        (scratch / "remap.config").write_text(
            "".join(f"map {scheme}://{HOST}:{port}/ {scheme}://{target}/\n" for scheme in schemes)
            # For those who come by another port: it serves upgrades as well.
            + (f"map / http://{target}/\n" if "ws" in schemes else "")
        )
        (scratch / "ip_allow.yaml").write_text(_ALLOWED)
        for name in _FILES:
            (scratch / name).touch()
        give_to(_USER, scratch)
        arguments = [required("traffic_server")]
        environment = {**os.environ, "TS_RUNROOT": "./runroot.yaml"}
        async with daemon("traffic_server", arguments, scratch, port, probe=to_front(port), environment=environment):
            yield Route(f"http://{HOST}:{port}")

    return release


_NEEDS: Final = ("traffic_server",)
ANIMALS: Final = (
    Animal(
        "trafficserver",
        "A cache with a rule for http:// alone: upgrades get 404.",
        _NEEDS,
        _traffic_server(("http",)),
        is_port_bound=True,
    ),
    Animal(
        "trafficserver-ws",
        "A cache with rules for http:// and ws://: everything passes.",
        _NEEDS,
        _traffic_server(("http", "ws")),
    ),
)


def _user() -> str:
    """It refuses to serve as root."""
    return _USER if is_root() else getpass.getuser()
