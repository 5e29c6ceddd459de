"""Sockets that share a port: who gets them, who does not, and who is served by which."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybrid.errors import SettingsError
from hybrid.web.listener import SPREADS, bind, bind_places

needs_spreading = pytest.mark.skipif(not SPREADS, reason="SO_REUSEPORT spreads on Linux only")


@contextmanager
def places(count: int, port: int = 0, *, spreads: bool = True) -> Iterator[list[socket.socket]]:
    made = bind_places("127.0.0.1", port, count, spreads=spreads)
    try:
        yield made
    finally:
        for place in made:
            place.close()


def accepted(place: socket.socket) -> int:
    """How many wait in its queue; they are taken out of it."""
    count = 0
    while True:
        try:
            place.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def connect(port: int, count: int) -> None:
    for _ in range(count):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()


@needs_spreading
def test_port_0_is_one_port_for_all_and_each_gets_a_share() -> None:
    with places(3) as made:
        ports = {place.getsockname()[1] for place in made}
        assert len(ports) == 1
        connect(ports.pop(), 120)
        shares = [accepted(place) for place in made]
        assert sum(shares) == 120
        assert min(shares) > 10


def test_without_spreading_it_is_one_socket() -> None:
    with places(3, spreads=False) as made:
        assert made[0] is made[1] is made[2]
        connect(made[0].getsockname()[1], 5)
        assert accepted(made[2]) == 5


@needs_spreading
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_place_that_stopped_listening_can_do_so_again(number: int) -> None:
    """One that got SO_REUSEPORT behind its bind, as the first of them once did, was given no connection any more."""
    with places(3) as made:
        port = made[0].getsockname()[1]
        made[number].shutdown(socket.SHUT_RD)
        connect(port, 60)
        assert sum(accepted(place) for place in made if place is not made[number]) == 60
        made[number].listen()
        connect(port, 120)
        assert accepted(made[number]) > 10


@pytest.mark.parametrize("spreads", [pytest.param(True, marks=needs_spreading), False])
def test_a_port_on_which_somebody_listens_is_refused(spreads: bool) -> None:
    """Also where that is another group: with SO_REUSEPORT alone, two servers of one user would share their clients."""
    with places(2, spreads=spreads) as made:
        port = made[0].getsockname()[1]
        for bind_again in (
            lambda: bind_places("127.0.0.1", port, 2, spreads=spreads),
            lambda: bind_places("127.0.0.1", port, 2, spreads=not spreads and SPREADS),
            lambda: bind("127.0.0.1", port),
        ):
            with pytest.raises(SettingsError) as caught:
                bind_again()
            assert str(caught.value) == f"Cannot listen on 127.0.0.1:{port}: Address already in use."


def test_the_port_of_a_server_by_itself_is_refused() -> None:
    with bind("127.0.0.1", 0) as alone:
        alone.listen()
        port = alone.getsockname()[1]
        with pytest.raises(SettingsError, match="Address already in use"):
            bind_places("127.0.0.1", port, 2)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_had_is_one_line(host: str, port: int) -> None:
    with pytest.raises(SettingsError) as caught:
        bind_places(host, port, 2)
    assert host in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
def test_accepted_sockets_inherit_the_options_in_every_place() -> None:
    with places(2) as made:
        for place in made:
            assert place.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert place.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert place.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65_536
            assert not place.getblocking()
