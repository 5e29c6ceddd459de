"""Whom a request comes from: the word of trusted proxies counts, that of anybody else does not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from hybrid.auth.door import address_group
from hybrid.transports.forwarded import HOPS_MAX, BehindProxies, TrustedProxies

PROXIES = TrustedProxies(("10.0.0.0/8", "192.168.1.1", "2001:db8:ffff::/48"))
FOR = b"x-forwarded-for"
PROTO = b"x-forwarded-proto"


def scope(peer: str | None, *headers: tuple[bytes, bytes], type: str = "http") -> dict[str, Any]:
    return {
        "type": type,
        "scheme": "http" if type == "http" else "ws",
        "client": None if peer is None else (peer, 4_711),
        "headers": [(b"host", b"hybrid.example"), *headers],
        "path": "/",
    }


def client_of(peer: str, *values: bytes) -> tuple[str, int] | None:
    return PROXIES.client(ip_address(peer), [(FOR, value) for value in values])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((b"203.0.113.7",), ("203.0.113.7", 0)),
        ((b" \t203.0.113.7 ",), ("203.0.113.7", 0)),
        ((b"203.0.113.7:5000",), ("203.0.113.7", 5_000)),
        ((b"2001:db8::7",), ("2001:db8::7", 0)),
        ((b"[2001:db8::7]",), ("2001:db8::7", 0)),
        ((b"[2001:db8::7]:65535",), ("2001:db8::7", 65_535)),
        ((b"2001:DB8:0:0::7",), ("2001:db8::7", 0)),
        ((b"::ffff:203.0.113.7",), ("203.0.113.7", 0)),
        ((b"[::ffff:203.0.113.7]:1",), ("203.0.113.7", 1)),
        # Several hops: the first from the right that is no proxy of ours.
        ((b"203.0.113.7, 10.1.1.1",), ("203.0.113.7", 0)),
        ((b"203.0.113.7,10.1.1.1:80,2001:db8:ffff::1 , 192.168.1.1",), ("203.0.113.7", 0)),
        ((b"203.0.113.7, ::ffff:10.1.1.1",), ("203.0.113.7", 0)),
        # What a client wrote itself stands further left.
        ((b"127.0.0.1, 10.9.9.9, 203.0.113.7, 10.1.1.1",), ("203.0.113.7", 0)),
        # A header that stands several times is one list.
        ((b"198.51.100.1", b"203.0.113.7", b"10.1.1.1"), ("203.0.113.7", 0)),
        ((b"198.51.100.1, 203.0.113.7", b"10.1.1.1, 10.1.1.2"), ("203.0.113.7", 0)),
        # Only proxies: the furthest of them, who is a client of ours too (a probe of the load balancer).
        ((b"10.3.3.3, 10.2.2.2",), ("10.3.3.3", 0)),
        # What cannot be read ends the reading; before it nothing was found.
        ((), None),
        ((b"",), None),
        ((b"unknown",), None),
        ((b"203.0.113.7,",), None),
        ((b"203.0.113.7, garbage, 10.1.1.1",), ("10.1.1.1", 0)),
        ((b"203.0.113.7, , 10.1.1.1",), ("10.1.1.1", 0)),
        ((b"203.0.113.7", b"", b"10.1.1.1"), ("10.1.1.1", 0)),
        ((b"203.0.113.7, 10.1.1.1, 10.2.2.2:x",), None),
    ],
)
def test_the_client_behind_trusted_proxies(values: tuple[bytes, ...], expected: tuple[str, int] | None) -> None:
    assert client_of("10.0.0.1", *values) == expected


@pytest.mark.parametrize(
    "entry",
    [
        b"203.0.113.256",
        b"203.0.113.07",  # octal in some parsers, decimal in others: nobody's address
        b"203.0.113.7/32",
        b"203.0.113.7:",
        b"203.0.113.7:65536",
        b"203.0.113.7:-1",
        b"203.0.113.7: 5",
        b"203.0.113.7:\xb2",  # a digit to str.isdigit, but not to int
        b"[203.0.113.7]",
        b"[2001:db8::7",
        b"[2001:db8::7]5",
        b"[2001:db8::7]:",
        b"2001:db8::7]",
        b"fe80::1%eth0",
        b"[fe80::1%25eth0]:1",
        b"_hidden",
        b'"203.0.113.7"',
        b"for=203.0.113.7",
        b"203.0.113.7\x00",
        b"203.0.113.7 203.0.113.8",
        b"3405803783",
        b"\xd9\xa1.\xd9\xa1.\xd9\xa1.\xd9\xa1",
        b"1" * 65,
    ],
)
def test_what_is_no_address_is_nobodys(entry: bytes) -> None:
    assert client_of("10.0.0.1", entry) is None
    assert client_of("10.0.0.1", b"10.7.7.7," + entry + b",10.1.1.1") == ("10.1.1.1", 0)


@pytest.mark.parametrize("peer", ["203.0.113.9", "127.0.0.1", "192.168.1.2", "2001:db8:fffe::1", "::1"])
@pytest.mark.parametrize("type", ["http", "websocket"])
def test_an_untrusted_peer_cannot_speak_for_others(peer: str, type: str) -> None:
    """Anybody can send these headers; whoever could choose an address would have no bound per address."""
    asked = scope(peer, (FOR, b"198.51.100.1"), (PROTO, b"https"), type=type)
    assert PROXIES.resolve(asked) is asked


def test_a_peer_without_an_address_is_not_trusted() -> None:
    """A Unix socket: what connects there could be anything on the machine."""
    everybody = TrustedProxies(("0.0.0.0/0", "::/0"))
    for peer in (None, "", "unix:", "testclient"):
        asked = scope(peer, (FOR, b"198.51.100.1"), (PROTO, b"https"))
        assert everybody.resolve(asked) is asked


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:ffff:1::9", "192.168.1.1"])
def test_a_trusted_peer_is_known_in_any_spelling(peer: str) -> None:
    """A listener for both families sees IPv4 peers as IPv6 ones."""
    asked = scope(peer, (FOR, b"198.51.100.1"))
    resolved = PROXIES.resolve(asked)
    assert resolved["client"] == ("198.51.100.1", 0)
    assert asked["client"] == (peer, 4_711)  # the server's own scope stays as it was


def test_a_zone_of_the_peer_is_no_part_of_its_address() -> None:
    assert TrustedProxies(("fe80::/10",)).resolve(scope("fe80::1%eth0", (FOR, b"198.51.100.1")))["client"] == (
        "198.51.100.1",
        0,
    )


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1"])
def test_a_mapped_network_trusts_the_plain_address(network: str) -> None:
    proxies = TrustedProxies((network,))
    assert proxies.trusts(ip_address("10.0.0.1"))
    assert not proxies.trusts(ip_address("11.0.0.1"))


@pytest.mark.parametrize(
    ("type", "values", "expected"),
    [
        ("http", (b"https",), "https"),
        ("http", (b"HTTPS ",), "https"),
        ("http", (b"wss",), "https"),
        ("http", (b"http",), "http"),
        ("websocket", (b"https",), "wss"),
        ("websocket", (b"wss",), "wss"),
        ("websocket", (b"http",), "ws"),
        # The nearest proxy wrote the last word.
        ("http", (b"https, http",), "http"),
        ("http", (b"http", b"https"), "https"),
        # No word that we know: what the server saw itself.
        ("http", (b"ftp",), "http"),
        ("http", (b"https,",), "http"),
        ("websocket", (b"",), "ws"),
        ("websocket", (), "ws"),
    ],
)
def test_the_scheme_is_the_clients(type: str, values: tuple[bytes, ...], expected: str) -> None:
    asked = scope("10.0.0.1", *((PROTO, value) for value in values), type=type)
    assert PROXIES.resolve(asked)["scheme"] == expected


def test_without_the_headers_nothing_changes() -> None:
    asked = scope("10.0.0.1")
    assert PROXIES.resolve(asked) is asked


def test_the_reading_is_bounded() -> None:
    """Past 16 proxies in a row nobody is looked for: the furthest that was read counts."""
    hops = [b"10.0.1.%d" % number for number in range(1, 201)]
    assert client_of("10.0.0.1", b"203.0.113.7," + b",".join(hops[: HOPS_MAX - 1])) == ("203.0.113.7", 0)
    assert client_of("10.0.0.1", b"203.0.113.7," + b",".join(hops[:HOPS_MAX])) == ("10.0.1.1", 0)
    assert client_of("10.0.0.1", *reversed(hops)) == ("10.0.1.16", 0)


@pytest.mark.parametrize("filler", [b"10.1.1.1,", b",", b"x", b"[", b":", b"203.0.113.9, "])
def test_a_header_of_10_kb_costs_no_more_than_a_short_one(filler: bytes) -> None:
    value = filler * (10_240 // len(filler))
    looked_at: list[object] = []

    class Counting(TrustedProxies):
        def trusts(self, address: Any) -> bool:
            looked_at.append(address)
            return super().trusts(address)

    counting = Counting(("10.0.0.0/8",))
    assert counting.client(ip_address("10.0.0.1"), [(FOR, value + b"198.51.100.1, 10.1.1.1")]) in (
        ("198.51.100.1", 0),
        ("10.1.1.1", 0),  # the filler spoiled the entry
    )
    counting.client(ip_address("10.0.0.1"), [(FOR, value)])
    assert len(looked_at) <= 2 * HOPS_MAX


def test_no_proxies_trust_nobody() -> None:
    nobody = TrustedProxies(())
    assert not nobody
    assert not nobody.trusts(ip_address("127.0.0.1"))


def test_what_is_found_is_what_the_door_counts() -> None:
    """The bound per address takes a mapped address for the plain one, and an IPv6 /64 for one address."""
    groups = {
        address_group(found[0])
        for entry in (b"203.0.113.7", b"::ffff:203.0.113.7", b"203.0.113.7:99", b"[::ffff:203.0.113.7]:99")
        if (found := client_of("10.0.0.1", entry)) is not None
    }
    assert groups == {"203.0.113.7"}


async def test_receive_and_send_are_passed_on_as_they_are() -> None:
    """A hand-off finds the connection through `send`; a wrapper around it would lose the hand-off in silence."""
    calls: list[tuple[Any, Any, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append((scope, receive, send))

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    behind = BehindProxies(app, PROXIES)
    lifespan = {"type": "lifespan"}
    await behind(lifespan, receive, send)
    await behind(scope("10.0.0.1", (FOR, b"198.51.100.1"), type="websocket"), receive, send)
    assert calls[0] == (lifespan, receive, send)
    assert calls[1][0]["client"] == ("198.51.100.1", 0)
    assert calls[1][1:] == (receive, send)
