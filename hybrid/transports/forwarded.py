"""Who a request comes from when proxies stand in front: `X-Forwarded-For` and `X-Forwarded-Proto`.

Anybody can write these headers, so they count only where the TCP peer is a proxy that the settings trust
(`trusted_proxies`); from everybody else they are ignored. What counts is put into the ASGI scope before anything else
looks at it, so that the bounds per address, the check of Origin and scheme, and the logs all speak of the same client.

A peer without an address (a Unix socket, under the plain `hypercorn` command) is never trusted: there is nothing that
could be compared with the list. RFC 7239's `Forwarded` is not read: proxies that write it pass on what a client has
written there, and two headers that contradict each other would have to be believed by turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from hybrid.transports.exchange import AsgiApp, Headers, Receive, Scope, Send

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

HOPS_MAX: Final = 16
"""Entries of X-Forwarded-For that are looked at, from the right: no chain of real proxies is longer, and a header of
10 KB costs no more than a short one."""
_ADDRESS_MAX_BYTES: Final = 64  # the longest address, in brackets and with a port, has 53
_MAPPED_PREFIX: Final = 96
_SECURE: Final = {b"https": True, b"wss": True, b"http": False, b"ws": False}
_SCHEMES: Final = {
    ("http", False): "http",
    ("http", True): "https",
    ("websocket", False): "ws",
    ("websocket", True): "wss",
}


class TrustedProxies:
    """The addresses whose word counts, each an address or a network as text (`10.0.0.0/8`)."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises ValueError for what is neither."""
        self._networks: Final = tuple(_plain_network(ip_network(network)) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: Address) -> bool:
        """Whether this is one of them; an IPv4 address mapped into IPv6 counts as the IPv4 address."""
        return any(address in network for network in self._networks)

    def resolve(self, scope: Scope) -> Scope:
        """The scope of a request as it would be without proxies in between.

        It is the same object where nothing is to be changed, otherwise a copy with another `client` and `scheme`. The
        port of a client behind a proxy is 0 (unknown) unless the proxy wrote one down.
        """
        peer = _peer_address(scope)
        if peer is None or not self.trusts(peer):
            return scope
        headers: Headers = scope["headers"]
        changes: dict[str, object] = {}
        client = self.client(peer, headers)
        if client is not None:
            changes["client"] = client
        is_secure = _is_secure(headers)
        if is_secure is not None:
            changes["scheme"] = _SCHEMES[scope["type"], is_secure]
        return {**scope, **changes} if changes else scope

    def client(self, peer: Address, headers: Headers) -> tuple[str, int] | None:
        """The client's address and port as the trusted proxies tell it; None where they tell nothing.

        `peer` is the proxy that is connected. Each proxy appends whom it was connected to, so the entries are read from
        the right, for as long as they are trusted proxies themselves: the first that is not is the client. At an entry
        that cannot be read the reading ends, with the last address before it. What stands further left may have been
        written by anybody.
        """
        found: tuple[str, int] | None = None
        for entry in _from_the_right(headers):
            parsed = _parse(entry)
            if parsed is None:
                break
            address, port = parsed
            found = (str(address), port)
            if not self.trusts(address):
                break
        return found


class BehindProxies:
    """An ASGI application that sees clients in place of trusted proxies.

    `receive` and `send` are passed on as they are: a hand-off finds the connection through them.
    """

    def __init__(self, app: AsgiApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] in ("http", "websocket"):
            scope = self._proxies.resolve(scope)
        await self._app(scope, receive, send)


def _peer_address(scope: Scope) -> Address | None:
    client = scope.get("client")
    if not client:
        return None
    return parse_address(str(client[0]))


def parse_address(text: str) -> Address | None:
    """An address as it can be compared with networks; None for what is none, such as the name of a Unix socket."""
    try:
        return _plain(ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _from_the_right(headers: Headers) -> Iterable[bytes]:
    """The entries of all X-Forwarded-For headers as one list (RFC 9110, section 5.3), the last first."""
    left = HOPS_MAX
    for name, value in reversed(headers):
        if name != b"x-forwarded-for":
            continue
        rest: bytes | None = value
        while rest is not None:
            if left == 0:
                return
            left -= 1
            before, comma, entry = rest.rpartition(b",")
            rest = before if comma else None
            yield entry.strip(b" \t")


def _parse(entry: bytes) -> tuple[Address, int] | None:
    """`192.0.2.1`, `192.0.2.1:5000`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5000`; None for anything else."""
    if len(entry) > _ADDRESS_MAX_BYTES:
        return None
    text = entry.decode("latin-1")
    port = ""
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or ":" not in host or (after and not after.startswith(":")):
            return None
        has_port, port = bool(after), after[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        has_port = True
    else:
        host, has_port = text, False
    if "%" in host:  # a zone means something on the proxy's own machine only
        return None
    if has_port and not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65_535):
        return None
    try:
        return _plain(ip_address(host)), int(port or 0)
    except ValueError:
        return None


def _is_secure(headers: Headers) -> bool | None:
    """Whether the client's own connection is encrypted; None where that is not told, or told in an unknown word.

    Of several words the last counts: it was written by the nearest proxy.
    """
    for name, value in reversed(headers):
        if name == b"x-forwarded-proto":
            return _SECURE.get(value.rpartition(b",")[2].strip(b" \t").lower())
    return None


def _plain(address: Address) -> Address:
    """A listener for both families sees IPv4 clients as `::ffff:192.0.2.1`."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network
