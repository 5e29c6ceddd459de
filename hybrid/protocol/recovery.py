"""What to send to continue after a position: the one rule behind every catch-up, from a broker's log or a node's ring.

Pure. `entries` are always the publications of one epoch that are still kept, ascending, without holes, and ending at
`head`; or none. The promises are those of `broker/base.py`, `Broker.read`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.errors import UnrecoverablePosition
from hybrid.model import UNVERIFIED_TAG, Position, Publication


def first_after(entries: Sequence[Publication], head: Position, after: Position) -> int:
    """The index in `entries` of the first publication after `after`; `len(entries)` when there is none.

    Raises UnrecoverablePosition unless continuing there is exact: `after` is the start and offset 1 is still kept (or
    nothing was ever appended), or it is the head with its tag, or an entry with its tag, or the place of the purge that
    began the epoch and offset 2 is still kept.
    """
    if after.offset == 0:
        if head.offset == 0 or (entries and entries[0].offset == 1):
            return 0
        raise UnrecoverablePosition(head)
    if after == head:
        return len(entries)
    if not entries or after.epoch != head.epoch:
        raise UnrecoverablePosition(head)
    if after.offset == 1 and after.tag == UNVERIFIED_TAG and entries[0].offset == 2:
        return 0
    index = after.offset - entries[0].offset
    if not 0 <= index < len(entries) or entries[index].tag != after.tag:
        raise UnrecoverablePosition(head)
    return index + 1


def take_page(entries: Sequence[Publication], first: int, *, limit: int, max_bytes: int) -> list[Publication]:
    """The publications from index `first` on: at most `limit`, data of at most `max_bytes` in all but at least one."""
    page: list[Publication] = []
    size = 0
    for publication in entries[first : first + limit]:
        size += len(publication.data)
        if page and size > max_bytes:
            break
        page.append(publication)
    return page
