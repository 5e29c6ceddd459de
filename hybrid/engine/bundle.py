"""Plain event streams of several channels: shared bytes although every id names the positions of all channels.

The id of an event counts the positions of its reader in the other channels too. Bytes can be shared only among
readers for whom all of these are the same: those LIVE on all channels of the bundle, at a moment when no other channel
of it is in the middle of a fan-out. So a bundle's readers join and leave all its channels at once, and a channel's
flush waits its turn while another one is writing to a bundle that both have readers in. First come, first served:
a later flush does not pass an earlier one that waits for the same bundle, so nobody starves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from hybrid.engine.channel import Channel
from hybrid.engine.ring import UNENCODABLE, Entry
from hybrid.model import Position, Publication
from hybrid.protocol.cursor import format_composite
from hybrid.protocol.publications import bundle_event
from hybrid.protocol.pushes import Push

_log = logging.getLogger(__name__)


def composite_payload(publication: Publication, positions: dict[str, Position]) -> bytes:
    """The event of a publication whose reader is at `positions` in all channels, this publication counted.

    UNENCODABLE (and one line in the log) if it cannot be written.
    """
    try:
        return bundle_event(publication, format_composite(positions))
    except Exception:
        _log.exception("publication %s of channel %r cannot be written", publication.offset, publication.channel)
        return UNENCODABLE


class Bundle:
    """One set of channels that some streams carry together; the writer of their groups. Compared by identity."""

    __slots__ = ("channels", "key", "readers")

    def __init__(self, key: tuple[str, ...], channels: tuple[Channel, ...]) -> None:
        self.key = key
        self.channels = channels
        self.readers = 0

    def payloads(self, channel: Channel, entries: Sequence[Entry]) -> list[bytes]:
        """See `live.Writer.payloads`. Right only while no other channel of the bundle is in a fan-out."""
        positions = {other.name: other.flushed for other in self.channels}
        payloads: list[bytes] = []
        for entry in entries:
            positions[channel.name] = entry.publication.position
            payloads.append(composite_payload(entry.publication, positions))
        return payloads

    def announce(self, push: Push) -> bytes | None:
        """Plain streams carry no joins and leaves."""
        return None

    @property
    def is_busy(self) -> bool:
        """True while one of its channels is in a fan-out."""
        return any(channel.fan_out is not None for channel in self.channels)


class Bundles:
    """The bundles in use, and whose turn it is to write to them."""

    __slots__ = ("_bundles", "_call_soon", "_is_retrying", "_waiting")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._bundles: dict[tuple[str, ...], Bundle] = {}
        self._waiting: list[Channel] = []
        self._is_retrying = False

    def __len__(self) -> int:
        return len(self._bundles)

    def obtain(self, channels: Sequence[Channel]) -> Bundle:
        """The bundle of these channels, for one more reader. Every one that was obtained is given back."""
        ordered = tuple(sorted(channels, key=lambda channel: channel.name))
        key = tuple(channel.name for channel in ordered)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = Bundle(key, ordered)
        bundle.readers += 1
        return bundle

    def give_back(self, bundle: Bundle) -> None:
        """A reader needs it no more."""
        bundle.readers -= 1
        if not bundle.readers:
            del self._bundles[bundle.key]

    def admits(self, channel: Channel) -> bool:
        """True when the channel may flush now."""
        if not self._bundles:
            return True
        wanted = [writer for writer in channel.live_writers if isinstance(writer, Bundle)]
        if any(bundle.is_busy for bundle in wanted):
            return False
        for earlier in self._waiting:
            if earlier is channel:
                return True
            if any(earlier in bundle.channels for bundle in wanted):
                return False
        return True

    def wait(self, channel: Channel) -> None:
        """Let the channel flush when it is admitted."""
        if not channel.is_waiting_its_turn:
            channel.is_waiting_its_turn = True
            self._waiting.append(channel)

    def ended(self) -> None:
        """A fan-out has ended: it may be somebody's turn, after those who wait to join."""
        if self._waiting and not self._is_retrying:
            self._is_retrying = True
            self._call_soon(self._retry)

    def _retry(self) -> None:
        self._is_retrying = False
        for channel in list(self._waiting):
            if channel.is_waiting_its_turn and self.admits(channel):
                self._waiting.remove(channel)
                channel.is_waiting_its_turn = False
                channel.flush_admitted()
