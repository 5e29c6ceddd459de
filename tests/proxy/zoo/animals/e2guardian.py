"""e2guardian: the content filter of schools, with Debian's lists."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo import chaos
from tests.proxy.zoo.animals.authorities import make_authority
from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, through_proxy
from tests.proxy.zoo.animals.urls import plain_url
from tests.proxy.zoo.chaos import Network
from tests.support.processes import free_port

_DEBIANS: Final = Path("/etc/e2guardian")
_START_MAX_S: Final = 60.0
_DAY_S: Final = 86_400
_OPENED_PORT: Final = 443
"""It opens TLS on this port alone, and tunnels all others blindly: so the origin has to be there as well."""


def _set(text: str, values: dict[str, str]) -> str:
    """A configuration with these settings in the place of its own."""
    kept = [line for line in text.splitlines() if line.split("=")[0].strip() not in values]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in values.items()), ""])


@asynccontextmanager
async def _e2guardian(
    origin: Origin, scratch: Path, settings: dict[str, str], group: dict[str, str]
) -> AsyncIterator[str]:
    port = free_port()
    try:
        main = (_DEBIANS / "e2guardian.conf").read_text(errors="replace")
        first = (_DEBIANS / "e2guardianf1.conf").read_text(errors="replace")
    except OSError as error:
        raise Absent(f"needs e2guardian's configuration: {error}") from error
    places = {
        "filterip": HOST,
        "filterports": str(port),
        "transparenthttpsport": "",
        "loglocation": f"'{scratch}/access.log'",
        "rqloglocation": f"'{scratch}/request.log'",
        "dstatlocation": f"'{scratch}/dstats.log'",
        "pidfilename": f"'{scratch}/e2guardian.pid'",
        "filecachedir": f"'{scratch}'",
        "daemonuser": f"'{getpass.getuser()}'",
        "daemongroup": f"'{getpass.getuser()}'",
        "httpworkers": "50",
        "dockermode": "on",
    }
    (scratch / "e2guardian.conf").write_text(_set(main, {**places, **settings}))
    (scratch / "e2guardianf1.conf").write_text(_set(first, group))
    arguments = [required("e2guardian"), "-N", "-c", str(scratch / "e2guardian.conf")]
    async with daemon("e2guardian", arguments, scratch, port, probe=through_proxy(origin), start_max_s=_START_MAX_S):
        yield f"http://{HOST}:{port}"


@asynccontextmanager
async def _plain(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    async with _e2guardian(origin, scratch, {}, {}) as proxy:
        yield Route(plain_url(origin), proxy=proxy)


@asynccontextmanager
async def _intercepted(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
    if origin.tls_port is None:
        raise ValueError("this animal is for an origin with TLS")
    try:
        listening = socket.create_server((HOST, _OPENED_PORT))
    except OSError as error:
        raise Absent(f"needs port {_OPENED_PORT} of the loopback: {error}") from error
    authority = make_authority(scratch / "authority")
    leaves = make_authority(scratch / "leaves")  # whose key is that of all certificates that it makes
    generated = scratch / "generated"
    generated.mkdir()
    settings = {
        "enablessl": "on",
        "cacertificatepath": f"'{authority.certificate}'",
        "caprivatekeypath": f"'{authority.key}'",
        "certprivatekeypath": f"'{leaves.key}'",
        "generatedcertpath": f"'{generated}/'",
        # Certificates hold for ten years from here, in seconds of the epoch, which by default is a day of 2014.
        "generatedcertstart": str(int(time.time()) - _DAY_S),
    }
    # It only knows the system's authorities, of which the origin's is none.
    group = {"sslmitm": "on", "mitmcheckcert": "off"}
    async with (
        chaos.relay(Network(anything=chaos.passing), origin.host, origin.tls_port, listening=listening),
        _e2guardian(origin, scratch, settings, group) as proxy,
    ):
        yield Route("https://localhost", proxy=proxy, ca=authority.certificate)


ANIMALS: Final = (
    Animal(
        "e2guardian",
        "A content filter that takes the Upgrade out, and reads every answer to its end first.",
        ("e2guardian",),
        _plain,
    ),
    Animal(
        "e2guardian-intercepted",
        "A content filter that opens TLS, takes the Upgrade out, and reads every answer to its end first.",
        ("e2guardian",),
        _intercepted,
        "intercepted",
    ),
)
