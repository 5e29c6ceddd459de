"""The LIVE set of a channel, in groups of links that are written the same bytes.

A group is two lists side by side, so that a fan-out walks over links alone and a member costs 16 bytes. Each member
knows its place in them. While a fan-out is on, the lists are frozen: nobody joins, and who leaves is replaced by a link
that goes nowhere, so that places, and with them "was it written to yet", stay true. The holes are closed afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from hybrid.engine.link import Framing, Segment
from hybrid.engine.ring import Entry
from hybrid.protocol.pushes import Push

if TYPE_CHECKING:
    from hybrid.engine.channel import Channel
    from hybrid.engine.subscription import Subscription


class Writer(Protocol):
    """What makes the payloads of a group: an encoding's, or a bundle's."""

    def payloads(self, channel: Channel, entries: Sequence[Entry]) -> list[bytes]:
        """One payload for each entry, in order; `ring.UNENCODABLE` where it cannot be made."""

    def announce(self, push: Push) -> bytes | None:
        """The payload of a join or leave, or None where it is not carried."""


class Writable(Protocol):
    """The one thing a fan-out asks of a link."""

    def write(self, segment: Segment) -> None:
        """See `Link.write`."""


class _Nowhere:
    __slots__ = ()

    def write(self, segment: Segment) -> None:
        """The place of a member that left during a fan-out."""


_NOWHERE: Final = _Nowhere()


class Group:
    """The LIVE subscriptions of one channel with one writer and one framing."""

    __slots__ = ("_holes", "framing", "links", "members", "writer", "written")

    def __init__(self, writer: Writer, framing: Framing) -> None:
        self.writer = writer
        self.framing = framing
        self.links: list[Writable] = []
        self.members: list[Subscription | None] = []
        self.written = 0  # places below it have been written to in the fan-out that is on
        self._holes = 0

    def __len__(self) -> int:
        return len(self.links) - self._holes

    def add(self, subscription: Subscription) -> None:
        """Let a subscription in; never during a fan-out."""
        subscription.group = self
        subscription.place = len(self.links)
        self.links.append(subscription.feed.link)
        self.members.append(subscription)

    def remove(self, subscription: Subscription, *, is_frozen: bool) -> None:
        """Let it out; `is_frozen` while a fan-out is on."""
        place = subscription.place
        subscription.group = None
        if is_frozen:
            self.links[place] = _NOWHERE
            self.members[place] = None
            self._holes += 1
            return
        link, member = self.links.pop(), self.members.pop()
        if place < len(self.links):
            assert member is not None
            self.links[place] = link
            self.members[place] = member
            member.place = place

    def thaw(self) -> None:
        """The fan-out is over: close the holes."""
        self.written = 0
        if self._holes:
            self._holes = 0
            members = [member for member in self.members if member is not None]
            self.members = list(members)
            self.links = [member.feed.link for member in members]
            for place, member in enumerate(members):
                member.place = place
