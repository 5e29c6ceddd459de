"""The plug between a client and an animal: when the network changes, what was open is dead and nobody is told."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.proxy.zoo.animals import Route
from tests.support.wire import Wire


class Switch(Wire):
    """Use it with `async with`; its port is known before the animal's is."""

    def __init__(self) -> None:
        super().__init__(0)

    @property
    def port(self) -> int:
        return self.address[1]

    def plugged(self, route: Route) -> Route:
        """The same way to the origin, through this plug."""
        if route.proxy is not None:
            self.port_of_server = _port(route.proxy)
            return Route(route.url, _with_port(route.proxy, self.port), route.ca)
        self.port_of_server = _port(route.url)
        return Route(_with_port(route.url, self.port), None, route.ca)

    def change(self) -> int:
        """From now on nothing passes on any connection that is open, in no direction, not even its end. How many."""
        for connection in self.connections:
            connection.hold()
        return len(self.connections)


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{port}").geturl()
