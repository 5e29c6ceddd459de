"""The Python client."""

from hybrid.client.client import Client
from hybrid.client.subscription import Subscription
from hybrid.client.timing import Timing
from hybrid.client.values import HistoryPage, LegEvent, ReceivedPublication, Stats, Unreachable

__all__ = [
    "Client",
    "HistoryPage",
    "LegEvent",
    "ReceivedPublication",
    "Stats",
    "Subscription",
    "Timing",
    "Unreachable",
]
