"""Who waits for the answer to a command, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hybrid.broker.base import Appended, Page
from hybrid.errors import HybridError
from hybrid.model import PresenceEntry
from hybrid.protocol.codec import wire_error
from hybrid.protocol.cursor import to_wire
from hybrid.protocol.publications import wire_publication
from hybrid.protocol.pushes import PresenceItem, Reply


class ReplyTo:
    """A way back: `sink` takes the reply once it has the `id` that the asker gave."""

    __slots__ = ("_id", "_sink")

    def __init__(self, sink: Callable[[Reply], None], command_id: int) -> None:
        self._sink = sink
        self._id = command_id

    def send(self, reply: Reply) -> None:
        """Answer."""
        self._sink(reply if reply.id == self._id else msgspec.structs.replace(reply, id=self._id))


def refused(error: HybridError, command_id: int = 0) -> Reply:
    """The reply that tells an error."""
    return Reply(id=command_id, error=wire_error(error))


def appended(result: Appended | HybridError, command_id: int) -> Reply:
    """The reply to a publish."""
    if isinstance(result, HybridError):
        return refused(result, command_id)
    return Reply(id=command_id, position=to_wire(result.position), repeated=result.was_repeated)


def called(result: bytes, command_id: int) -> Reply:
    """The reply to a call."""
    return Reply(id=command_id, result=msgspec.Raw(result))


def history(page: Page, command_id: int) -> Reply:
    """The reply to a history command."""
    publications = [wire_publication(publication) for publication in page.publications]
    return Reply(id=command_id, publications=publications, head=to_wire(page.head))


def presence(entries: list[PresenceEntry], command_id: int) -> Reply:
    """The reply to a presence command."""
    return Reply(id=command_id, entries=[PresenceItem(entry.subject, entry.client) for entry in entries])
