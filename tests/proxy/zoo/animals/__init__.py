"""The animals of the zoo, by name, in the order in which they are shown."""

from __future__ import annotations

from typing import Final

from tests.proxy.zoo.animals import (
    apache,
    caddy,
    chaos,
    e2guardian,
    haproxy,
    hybrid_nginx,
    loss,
    mitmproxy,
    nghttpx,
    nginx,
    privoxy,
    squid,
    tinyproxy,
    trafficserver,
    varnish,
)
from tests.proxy.zoo.animals.base import Absent, Animal, Origin, Route

__all__ = ["ANIMALS", "Absent", "Animal", "Origin", "Route"]

_ALL: Final[tuple[Animal, ...]] = (
    # Clients are told of these.
    *squid.ANIMALS,
    *tinyproxy.ANIMALS,
    *privoxy.ANIMALS,
    apache.ANIMALS[0],
    *e2guardian.ANIMALS,
    *mitmproxy.ANIMALS,
    # These stand in front of the origin, and clients do not know.
    *nginx.ANIMALS,
    *haproxy.ANIMALS,
    *varnish.ANIMALS,
    apache.ANIMALS[1],
    *caddy.ANIMALS,
    *nghttpx.ANIMALS,
    *trafficserver.ANIMALS,
    *hybrid_nginx.ANIMALS,
    # These are no proxies that one can buy.
    *chaos.ANIMALS,
    *loss.ANIMALS,
)

ANIMALS: Final[dict[str, Animal]] = {animal.name: animal for animal in _ALL}
