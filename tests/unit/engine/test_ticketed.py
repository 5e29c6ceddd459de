"""One stream for each ticket, whatever the order in which nodes hear of each other."""

from __future__ import annotations

import logging
from typing import cast

from hybrid.auth.tickets import Claim
from hybrid.engine.plain import PlainStream
from hybrid.engine.tasks import Tasks
from hybrid.engine.ticketed import TicketStreams
from hybrid.errors import BrokerError
from tests.support.virtual_time import in_virtual_time, settle

HASH = b"h" * 32


class Stream:
    def __init__(self) -> None:
        self.ended = ""

    def end(self, error: str) -> None:
        self.ended = error


class Node:
    def __init__(self, name: str = "here") -> None:
        self.told: list[tuple[str, bytes, int]] = []
        self.is_away = False
        self.tasks = Tasks()
        self.streams = TicketStreams(name, self.tasks, self.tell)

    async def tell(self, node: str, ticket: bytes, number: int) -> None:
        if self.is_away:
            raise BrokerError
        self.told.append((node, ticket, number))

    def open(self, number: int, former: str = "") -> Stream:
        stream = Stream()
        self.streams.opened(Claim(HASH, former, number), cast(PlainStream, stream))
        return stream


@in_virtual_time
async def test_the_newer_ends_the_older_here_and_tells_where_it_was() -> None:
    node = Node()
    first = node.open(1)
    second = node.open(2, "here")
    assert (first.ended, second.ended) == ("replaced", "")
    third = node.open(4, "there")
    await settle()
    assert (second.ended, third.ended) == ("replaced", "")
    assert node.told == [("there", HASH, 4)]
    await node.tasks.close()


@in_virtual_time
async def test_a_message_about_an_older_one_ends_nothing() -> None:
    node = Node()
    stream = node.open(3)
    node.streams.replaced(HASH, 2)
    node.streams.replaced(b"x" * 32, 9)
    assert not stream.ended
    node.streams.replaced(HASH, 4)
    assert stream.ended == "replaced"
    await node.tasks.close()


@in_virtual_time
async def test_a_stream_that_was_overtaken_while_it_was_opened_ends_at_once() -> None:
    node = Node()
    newer = node.open(2)
    older = node.open(1)
    assert (older.ended, newer.ended) == ("replaced", "")
    await node.tasks.close()


@in_virtual_time
async def test_only_the_stream_that_stands_there_is_forgotten() -> None:
    node = Node()
    first, second = node.open(1), node.open(2)
    node.streams.closed(Claim(HASH, "", 1), cast(PlainStream, first))
    assert len(node.streams) == 1
    node.streams.closed(Claim(HASH, "", 2), cast(PlainStream, second))
    assert len(node.streams) == 0
    await node.tasks.close()


@in_virtual_time
async def test_a_node_that_cannot_be_told_harms_nothing() -> None:
    logging.getLogger("hybrid.engine.ticketed").disabled = True
    node = Node()
    node.is_away = True
    stream = node.open(2, "there")
    await settle()
    assert not stream.ended
    await node.tasks.close()
    logging.getLogger("hybrid.engine.ticketed").disabled = False
