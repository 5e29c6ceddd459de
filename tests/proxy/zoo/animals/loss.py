"""A line that loses packets: a network namespace of its own, with rules that drop what comes in and goes out.

nftables, because kernels that can do namespaces often come without `netem`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shlex
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.proxy.zoo import chaos
from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Route
from tests.proxy.zoo.animals.daemons import HOST, finished, required
from tests.proxy.zoo.chaos import Network

_CLONE_NEWNET: Final = 0x4000_0000
_BACKLOG: Final = 100
_RULES: Final = """\
table netdev zoo {{
    chain came {{
        type filter hook ingress device {device} priority 0;
        ether type ip numgen random mod 100 < {percent} counter drop
    }}
    chain goes {{
        type filter hook egress device {device} priority 0;
        ether type ip numgen random mod 100 < {percent} counter drop
    }}
}}
"""


@asynccontextmanager
async def _line(percent: int, scratch: Path) -> AsyncIterator[socket.socket]:
    """A socket that listens behind the line. Raises Absent where the machine does not allow it."""
    ip, nft = required("ip"), required("nft")
    name = f"zoo-{secrets.token_hex(3)}"
    near, far = f"{name}n", f"{name}f"
    subnet, first = secrets.randbelow(256), 4 * secrets.randbelow(64)
    near_address, far_address = f"10.203.{subnet}.{first + 1}", f"10.203.{subnet}.{first + 2}"
    rules = scratch / "rules.nft"
    rules.write_text(_RULES.format(device=far, percent=percent))
    try:
        for step in (
            f"{ip} netns add {name}",
            f"{ip} link add {near} type veth peer name {far} netns {name}",
            f"{ip} address add {near_address}/30 dev {near}",
            # One packet is one packet: otherwise 64 KB would be lost, or come through, at once.
            f"{ip} link set {near} gso_max_segs 1 up",
            f"{ip} -n {name} address add {far_address}/30 dev {far}",
            f"{ip} -n {name} link set {far} gso_max_segs 1 up",
            f"{ip} netns exec {name} {nft} -f {shlex.quote(str(rules))}",
        ):
            await _run(step, scratch)
        # A thread of its own, which is not used again: namespaces are those of threads.
        with ThreadPoolExecutor(1) as inside:
            listening = await asyncio.get_running_loop().run_in_executor(inside, _listening, name, far_address)
        with listening:
            yield listening
    finally:
        for step in (f"{ip} link delete {near}", f"{ip} netns delete {name}"):
            with suppress(Absent):  # it was never made
                await _run(step, scratch)


async def _run(step: str, scratch: Path) -> None:
    """Raises Absent: what fails here is not allowed, or not in this kernel."""
    try:
        await finished("line", shlex.split(step), scratch)
    except RuntimeError as error:
        raise Absent(f"needs network namespaces with nftables: {step!r}: {error}") from error


def _listening(namespace: str, address: str) -> socket.socket:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            raise Absent(f"needs to enter network namespaces: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
    made = socket.create_server((address, 0), backlog=_BACKLOG)
    made.setblocking(False)
    return made


def _lossy(percent: int) -> Animal:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        async with _line(percent, scratch) as listening:
            far, _ = listening.getsockname()
            # Client, near end, line, far end, origin: to the client, it all is on the loopback.
            async with (
                chaos.relay(Network(anything=chaos.passing), origin.host, origin.port, listening=listening) as port,
                chaos.relay(Network(anything=chaos.passing), far, port) as near_port,
            ):
                yield Route(f"http://{HOST}:{near_port}")

    return Animal("packet-loss", f"A line that loses {percent} % of all packets, both ways.", ("ip", "nft"), release)


ANIMALS: Final = (_lossy(10),)
