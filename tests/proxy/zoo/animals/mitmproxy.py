"""mitmproxy: an inspector of traffic, with and without TLS, as data loss prevention and virus scanners are.

It comes from PyPI, into an environment of its own below `.zoo/`, made when it is first wanted.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, through_proxy
from tests.proxy.zoo.animals.urls import plain_url, tls_url
from tests.support.processes import free_port

CACHE: Final = Path(__file__).parents[4] / ".zoo"
_INSTALL_MAX_S: Final = 300
_START_MAX_S: Final = 60.0
_MUTE: Final = """\
def websocket_message(flow):
    flow.websocket.messages[-1].drop()
"""


def _mitmdump() -> str:
    """Its path, after installing it where that was not done yet. Raises Absent where that fails."""
    folder = CACHE / "mitmproxy"
    dump, done = folder / "bin" / "mitmdump", folder / ".installed"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return str(dump)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            subprocess.run([*pip, "mitmproxy>=10"], check=True, capture_output=True, timeout=_INSTALL_MAX_S)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise Absent(f"needs mitmproxy, which pip cannot install: {' '.join(said[-1:])}") from error
        except subprocess.TimeoutExpired as error:
            raise Absent(f"needs mitmproxy, which pip did not install within {_INSTALL_MAX_S} s") from error
        done.touch()
    return str(dump)


def _mitmproxy(*options: str, addon: str = "", intercepts: bool = False) -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        url = tls_url(origin) if intercepts else plain_url(origin)
        arguments = [await asyncio.to_thread(_mitmdump), "--listen-host", HOST, "--listen-port", str(port)]
        for option in (f"confdir={scratch}", *options):
            arguments += ["--set", option]
        if intercepts:
            arguments += ["--set", f"ssl_verify_upstream_trusted_ca={origin.ca}"]
        if addon:
            (scratch / "addon.py").write_text(addon)
            arguments += ["--scripts", str(scratch / "addon.py")]
        async with daemon("mitmdump", arguments, scratch, port, probe=through_proxy(origin), start_max_s=_START_MAX_S):
            ca = scratch / "mitmproxy-ca-cert.pem" if intercepts else None
            yield Route(url, proxy=f"http://{HOST}:{port}", ca=ca)

    return release


_NEEDS: Final = ()  # it is installed on demand
ANIMALS: Final = (
    Animal("mitmproxy", "An inspector: WebSockets pass, every other answer comes at its end.", _NEEDS, _mitmproxy()),
    Animal(
        "mitmproxy-streams",
        "An inspector that lets large answers stream.",
        _NEEDS,
        _mitmproxy("stream_large_bodies=1"),
    ),
    Animal(
        "mitmproxy-mute",
        "An inspector that lets upgrades through and drops every message; answers come at their end.",
        _NEEDS,
        _mitmproxy(addon=_MUTE),
    ),
    Animal(
        "mitmproxy-intercepted",
        "An inspector that opens TLS: WebSockets pass, every other answer comes at its end.",
        _NEEDS,
        _mitmproxy(intercepts=True),
        "intercepted",
    ),
    Animal(
        "mitmproxy-mute-intercepted",
        "An inspector that opens TLS and drops every message of WebSockets.",
        _NEEDS,
        _mitmproxy(addon=_MUTE, intercepts=True),
        "intercepted",
    ),
)
