"""Whether this host can carry a plan out: file descriptors and local ports, asked before the first connection."""

from __future__ import annotations

import ipaddress
import resource
import socket
from collections.abc import Sequence

from hybrid.bench.plan import Plan
from hybrid.errors import SettingsError

_PORTS_FILE = "/proc/sys/net/ipv4/ip_local_port_range"


def check_host(plan: Plan, local_addresses: Sequence[str] = ()) -> None:
    """Raises SettingsError, which says how to raise what is too low."""
    for address in local_addresses:
        _check_address(address)
    _check_descriptors(plan, descriptors_max())
    _check_ports(plan, max(1, len(local_addresses)), local_ports())


def descriptors_max() -> int | None:
    """The hard limit of file descriptors for a process; None without one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def local_ports() -> int | None:
    """How many ports outgoing connections from one address to one port can have; None where it is not told."""
    try:
        with open(_PORTS_FILE, encoding="ascii") as file:
            low, high = map(int, file.read().split())
    except (OSError, ValueError):
        return None
    return high - low + 1


def _check_descriptors(plan: Plan, most: int | None) -> None:
    if most is None or plan.descriptors <= most:
        return
    raise SettingsError(
        detail=f"A load process needs {plan.descriptors:,} file descriptors, and the hard limit is {most:,}. Take more "
        f"--processes (each has a limit of its own), or raise it: `ulimit -Hn` as root, `nofile` in "
        "/etc/security/limits.conf, LimitNOFILE= in systemd, --ulimit nofile= of a container."
    )


def _check_ports(plan: Plan, addresses: int, ports: int | None) -> None:
    needed = plan.clients + plan.publishing_connections
    if ports is None or needed <= ports * addresses:
        return
    raise SettingsError(
        detail=f"{needed:,} connections need as many local ports, and this host has {ports * addresses:,} for one "
        f"server. Give more of its addresses with --from (on the loopback 127.0.0.2, 127.0.0.3, ...), or widen "
        "net.ipv4.ip_local_port_range."
    )


def _check_address(address: str) -> None:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except (ValueError, OSError):
        raise SettingsError(detail=f"--from {address!r} is no address of this host.") from None
