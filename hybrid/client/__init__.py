"""The Python client."""

from hybrid.client.client import Client
from hybrid.client.legs import Timing
from hybrid.client.subscription import Subscription
from hybrid.client.values import LegEvent, ReceivedPublication, Stats

__all__ = ["Client", "LegEvent", "ReceivedPublication", "Stats", "Subscription", "Timing"]
