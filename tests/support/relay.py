"""A wire in front of any TCP server, such as Redis, whose faults concern what is open and what will be.

What `wire.Wire` does to one connection, a `Relay` does to all at once: it cuts them (and refuses further ones), delays
both ways, limits the rate, or freezes: it goes on accepting, and nothing passes.
"""

from __future__ import annotations

import asyncio

from tests.support.wire import Connection, Wire


class Relay(Wire):
    """Use it with `async with`; clients go to `port`."""

    def __init__(self, port_of_server: int) -> None:
        super().__init__(port_of_server)
        self.is_frozen = False
        self._rate_bytes_per_s = 0.0

    @property
    def port(self) -> int:
        return self.address[1]

    def sever(self) -> int:
        """Reset every connection, and whoever connects until `mend`; how many there were."""
        self.is_refusing = True
        return self.cut()

    def mend(self) -> None:
        """Let connections through again, without delay or limit."""
        self.is_refusing = False
        self.delay(0.0, 0.0)
        self.limit(0.0)
        self.thaw()

    def delay(self, up_s: float, down_s: float) -> None:
        """Every byte takes so much longer, on open connections too; never out of order."""
        self.up_delay_s, self.down_delay_s = up_s, down_s
        for connection in self.connections:
            connection.up.delay_s, connection.down.delay_s = up_s, down_s

    def limit(self, bytes_per_s: float) -> None:
        """Pass so many bytes a second on each connection and each way; 0 lifts it."""
        self._rate_bytes_per_s = bytes_per_s
        for connection in self.connections:
            self._set_rate(connection)

    def freeze(self) -> None:
        """Accept and pass nothing. What was sent meanwhile arrives after `thaw`."""
        self.is_frozen = True
        for connection in self.connections:
            connection.hold()

    def thaw(self) -> None:
        """Pass on what was held."""
        self.is_frozen = False
        for connection in list(self.connections):
            connection.release()

    def _accept(self) -> asyncio.Protocol:
        known = len(self.connections)
        side = super()._accept()
        for connection in self.connections[known:]:
            self._set_rate(connection)
            if self.is_frozen:
                connection.hold()
        return side

    def _set_rate(self, connection: Connection) -> None:
        connection.up.rate_bytes_per_s = connection.down.rate_bytes_per_s = self._rate_bytes_per_s
