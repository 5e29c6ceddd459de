"""The clients that are driven through the zoo, by name."""

from __future__ import annotations

from typing import Final

from tests.proxy.zoo.drivers.base import Driven, Driver, DriverError
from tests.proxy.zoo.drivers.chromium import chromium
from tests.proxy.zoo.drivers.firefox import firefox
from tests.proxy.zoo.drivers.node import node
from tests.proxy.zoo.drivers.webkit import webkit

__all__ = ["CLIENTS", "Driven", "Driver", "DriverError"]

CLIENTS: Final[dict[str, Driver]] = {"chromium": chromium, "node": node, "firefox": firefox, "webkit": webkit}
