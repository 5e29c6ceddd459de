"""What everything is called in Redis.

Data and control have prefixes of their own, so that an access list can keep them apart. A channel's name stands
percent-encoded inside the braces of a hash tag: all that belongs to one channel lies in one slot of a Cluster, and no
name that a client thinks of can choose a slot or read like a pattern.

    hybrid:d:{chat%3Alobby}        what is announced there      hybrid:d:{chat%3Alobby}:h  :l  :k:...  :p...
    hybrid:c:...                   nodes, tickets, work lists, what was revoked
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from hybrid.protocol.channels import percent_encode

LAYOUT: Final = 1
"""The version of all that is described here and in the scripts; a node does not start on a higher one."""
_CACHED: Final = 8_192  # channels whose keys are remembered: some 500 bytes each


class ChannelKeys(NamedTuple):
    """The keys of one channel. `topic` is also where its publications are announced."""

    topic: bytes
    head: bytes
    log: bytes

    def idempotency(self, digest: bytes) -> bytes:
        """Where a publisher's key is remembered."""
        return b"%b:k:%b" % (self.topic, digest)

    @property
    def occupied(self) -> bytes:
        """The nodes that read it."""
        return self.topic + b":oc"

    def presence(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Leases, principals in order of coming, their counts of sessions, and what numbers the comings."""
        topic = self.topic
        return topic + b":pl", topic + b":po", topic + b":pc", topic + b":pn"


class Keys:
    """All names below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._data = f"{prefix}:d:"
        self._control = f"{prefix}:c:".encode()
        self.of = lru_cache(maxsize=_CACHED)(self._of)
        """The keys of a channel, by its name."""
        self.layout = self._control + b"layout"
        self.nodes = self._control + b"{nodes}"
        self.generation = self._control + b"{nodes}:g"
        self.due = self._control + b"{presence}:due"
        self.claimed = self._control + b"{presence}:claimed"
        self.occupied_due = self._control + b"{occupied}:due"
        self.occupied_claimed = self._control + b"{occupied}:claimed"
        self.revoked = self._control + b"{revoked}"
        self.revoked_times = self._control + b"{revoked}:t"

    def ticket(self, ticket_hash: bytes) -> bytes:
        """Where a ticket is kept."""
        return self._control + b"t:" + ticket_hash.hex().encode()

    def proof(self, proof_id: bytes) -> bytes:
        """Where it is kept that a proof of possession was used."""
        return self._control + b"p:" + proof_id.hex().encode()

    def call(self, digest: bytes) -> bytes:
        """Where the outcome of a call is kept."""
        return self._control + b"r:" + digest.hex().encode()

    def node(self, node_id: str) -> bytes:
        """Where messages for a node are announced."""
        return self._control + b"n:{%b}" % node_id.encode()

    def _of(self, channel: str) -> ChannelKeys:
        topic = f"{self._data}{{{percent_encode(channel)}}}".encode()
        return ChannelKeys(topic, topic + b":h", topic + b":l")
