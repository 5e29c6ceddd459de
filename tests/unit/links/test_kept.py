"""A kept connection without a socket: what its server is told when it goes back."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid.links.head import Head
from hybrid.links.kept import GivenBack, KeptConnection, KeptConnections

REQUEST = b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n"


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def set_protocol(self, protocol: Any) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False


class FakeFront:
    keep_alive_s = 10.0
    requests_max = 1_000
    head_max_bytes = 1_000

    def __init__(self) -> None:
        self.given_back: list[GivenBack] = []

    def take_back(self, connection: GivenBack) -> None:
        self.given_back.append(connection)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not needed here")


class FakeUnread:
    def __init__(self) -> None:
        self.links: set[KeptConnection] = set()

    def paused(self, link: KeptConnection) -> None:
        self.links.add(link)

    def gone(self, link: KeptConnection) -> None:
        self.links.discard(link)


def nothing_is_ours(head: Head) -> bool:
    return False


async def test_it_goes_back_with_all_that_its_server_has_to_know() -> None:
    for is_full in (False, True):
        front, transport, together, unread = FakeFront(), FakeTransport(), KeptConnections(), FakeUnread()
        connection = KeptConnection(front, together, unread, nothing_is_ours, requests=7)  # type: ignore[arg-type]
        connection.start(transport, b"answer", b"", has_ended=False)
        assert (transport.written, len(together)) == (b"answer", 1)
        if is_full:
            connection.pause_writing()
        connection.data_received(REQUEST)
        assert front.given_back == [GivenBack(transport, REQUEST, 7, is_full)]
        assert len(together) == 0
        assert not unread.links
