"""What happened in this process since its start, in plain numbers. Words only that are known here, none of a client's.

`Tally` is what delivery counts, per flush and never per client; `Counts` is what sessions and requests count, each once
for something that costs a thousand times as much. Both are read by `web/metrics`, at most a few times a minute.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from hybrid.broker.base import Appended
from hybrid.counts import Sizes
from hybrid.errors import BY_NUMBER, HybridError, LimitError

SESSION, CHANNELS = "session", "channels"
"""Kinds of streams: one that carries a session, and one of plain channels."""
UNKNOWN: Final = "unknown"
FRESH, RESUMED, REBUILT, REFUSED = "fresh", "resumed", "rebuilt", "refused"
"""How an attach went: a new session; the same one again; one in place of a session that is not known here; none."""
RECOVERED, RESET, BEGUN = "recovered", "reset", "begun"
"""How a reader's start went: exactly after its position; not, and it was told; it came without a position."""

LOG_REPLACED, LOG_DIFFERS, TOO_OLD, UNWRITABLE = "log_replaced", "log_differs", "too_old", "unwritable"
"""Why a reader was told of a reset: the channel's log began anew, or is another one than the reader's; history does not
reach back to it any more; a publication cannot be written in the reader's encoding."""

_LEFT: Final = {1000: "client", 1001: "client", 1005: "client", 1006: "lost"}
"""Ends of a stream that are in no table of errors: the client said goodbye, or it was cut."""
_OTHER: Final = "other"


SAMPLE_EVERY_S: Final = 0.01
"""Flushes are measured at most so often: of a quiet server every one, of a busy one a hundred a second."""


class Tally:
    """Counts of delivery. One for each hub."""

    __slots__ = (
        "bytes",
        "deliveries",
        "flush_links",
        "flush_publications",
        "flushes",
        "gaps",
        "lagged",
        "publications",
        "recoveries",
        "resets",
        "sample_from_s",
        "write_us",
    )

    def __init__(self) -> None:
        self.deliveries = 0
        self.flushes = 0
        self.publications = 0
        self.bytes = 0
        """Written to links in flushes, framing included, before TLS."""
        self.sample_from_s = 0.0
        """From when on the next flush is measured: the following three are of samples."""
        self.flush_publications = Sizes()
        self.flush_links = Sizes()
        self.write_us = Sizes()
        """From the arrival here of the first publication of a flush until it was written to the last LIVE link."""
        self.lagged = 0
        """How often a link was too slow and its subscriptions left the LIVE sets."""
        self.gaps = 0
        """How often a channel may have missed something, or has."""
        self.recoveries: Counter[str] = Counter()
        self.resets: Counter[str] = Counter()


class Counts:
    """Counts of sessions, streams and requests. One for each engine."""

    __slots__ = ("attaches", "closed", "limits", "opened", "publish_us", "published", "refusals")

    def __init__(self) -> None:
        self.opened: Counter[tuple[str, str]] = Counter()
        """Streams by (transport, kind)."""
        self.closed: Counter[tuple[str, str]] = Counter()
        """Streams that ended, by (transport, reason)."""
        self.attaches: Counter[tuple[str, str]] = Counter()
        """By (transport, outcome). What is not admitted has no transport yet: `UNKNOWN`."""
        self.refusals: Counter[str] = Counter()
        """Errors that somebody was told, by name."""
        self.limits: Counter[str] = Counter()
        """Bounds that somebody ran into, by name."""
        self.published: Counter[str] = Counter()
        """Publications asked for here, by outcome: `appended`, `repeated`, or the name of an error."""
        self.publish_us = Sizes()
        """From a call to publish until the broker's answer."""

    def refused(self, error: HybridError) -> None:
        """Somebody is told this error."""
        self.refusals[error.row.name] += 1
        self._hit(error)

    def published_one(self, result: Appended | HybridError) -> None:
        """What became of one publication."""
        if isinstance(result, HybridError):
            self.published[result.row.name] += 1
            self._hit(result)
        else:
            self.published["repeated" if result.was_repeated else "appended"] += 1

    def _hit(self, error: HybridError) -> None:
        """Once for each error: a publication's is counted with its outcome, and told to somebody behind that."""
        if isinstance(error, LimitError) and not error.is_counted:
            error.is_counted = True
            self.limits[error.limit] += 1

    def left(self, transport: str, code: int) -> None:
        """A stream has ended with this close code, whoever sent it."""
        row = BY_NUMBER.get(code)
        self.closed[transport, row.name if row is not None else _LEFT.get(code, _OTHER)] += 1
