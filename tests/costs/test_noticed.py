"""That the counts notice what they are there for: each change that would slow hybrid down makes a test of them fail."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from hybrid.broker.base import Append, Appended
from hybrid.broker.redis.broker import RedisBroker
from hybrid.engine.channel import Channel
from hybrid.engine.encodings import SESSION_JSON
from hybrid.engine.fanout import FanOut
from hybrid.engine.hub import Hub
from hybrid.engine.leg import StreamLeg
from hybrid.engine.link import Segment
from hybrid.engine.live import Group
from hybrid.engine.locate import Located, locate
from hybrid.engine.ring import Entry
from hybrid.errors import BrokerError
from hybrid.links.handoff import HandedOffWebSocket, _HandedOff
from hybrid.model import Publication
from tests.costs import guests, test_fan_out, test_idle, test_store, test_wire


class Mutant(NamedTuple):
    """`apply` changes the product; `test` is then called with `arguments`."""

    apply: Callable[[pytest.MonkeyPatch], None]
    test: Callable[..., Any]
    arguments: Mapping[str, Any] = MappingProxyType({})


def writes(for_each: Callable[[Segment], Segment]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fan-out that does something to what each client is written."""

    def write(group: Group, segment: Segment, first: int, end: int) -> None:
        for place in range(first, end):
            group.written = place + 1
            group.links[place].write(for_each(segment))

    return lambda patch: patch.setattr(FanOut, "_write", staticmethod(write))


def json_for_each(segment: Segment) -> Segment:
    json.dumps({"data": "x"})
    return segment


def copy_for_each(segment: Segment) -> Segment:
    return bytes(bytearray(segment))  # type: ignore[arg-type]  # of bytes


def a_copy_of_the_links(patch: pytest.MonkeyPatch) -> None:
    def write(group: Group, segment: Segment, first: int, end: int) -> None:
        for link in list(group.links)[first:end]:
            group.written += 1
            link.write(segment)

    patch.setattr(FanOut, "_write", staticmethod(write))


def encoded_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Entry, "payload", lambda entry, encoding: encoding.encode(entry.publication))


def two_writes(patch: pytest.MonkeyPatch) -> None:
    def write(link: _HandedOff, segment: Segment) -> None:
        link._transport.write(segment[:2])  # type: ignore[arg-type]  # of bytes
        link._transport.write(segment[2:])  # type: ignore[arg-type]

    patch.setattr(_HandedOff, "write", write)


def a_flush_for_each(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "_flush_soon", Channel.flush)


def a_longer_name(patch: pytest.MonkeyPatch) -> None:
    encode = SESSION_JSON.encode
    patch.setattr(SESSION_JSON, "encode", lambda publication: encode(publication).replace(b"offset", b"position"))


def receives(also: Callable[[Hub], object]) -> Callable[[pytest.MonkeyPatch], None]:
    """A hub that does something more for each publication."""
    published = Hub.published

    def receive(hub: Hub, publication: Publication) -> None:
        also(hub)
        published(hub, publication)

    return lambda patch: patch.setattr(Hub, "published", receive)


def look_at_all_channels(hub: Hub) -> None:
    for channel in hub._channels.values():
        assert channel


def look_at_all_that_is_kept(hub: Hub) -> None:
    for channel in hub._channels.values():
        sum(entry is not None for entry in channel.ring._entries)


def opens(also: Callable[[StreamLeg], object]) -> Callable[[pytest.MonkeyPatch], None]:
    """A leg that has something more from its beginning on."""
    opened = StreamLeg.opened

    def open_(leg: StreamLeg, link: Any) -> None:
        also(leg)
        opened(leg, link)

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(StreamLeg, "opened", open_)
        patch.setattr(guests, "PATIENCE_S", 0.1)

    return apply


def a_task(leg: StreamLeg) -> None:
    leg._engine.tasks.spawn(asyncio.sleep(60))


def a_timer(leg: StreamLeg) -> None:
    asyncio.get_running_loop().call_later(60, int)


def a_list(leg: StreamLeg) -> None:
    leg._held = []


def a_buffer(leg: StreamLeg) -> None:
    leg._held = bytearray(1_000)  # type: ignore[assignment]


def a_slot(patch: pytest.MonkeyPatch) -> None:
    class Larger(HandedOffWebSocket):
        __slots__ = ("more",)

    Larger.__module__, Larger.__qualname__ = HandedOffWebSocket.__module__, HandedOffWebSocket.__qualname__
    patch.setattr("hybrid.links.open.HandedOffWebSocket", Larger)


def a_head_for_each(patch: pytest.MonkeyPatch) -> None:
    async def located(channel: Channel, *arguments: Any) -> Located:
        channel.shared.upkeep.look([channel])
        return await locate(channel, *arguments)

    patch.setattr("hybrid.engine.feed.locate", located)


def one_command_more(patch: pytest.MonkeyPatch) -> None:
    append = RedisBroker.append

    async def appended(broker: RedisBroker, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        await broker.heads([appends[0].channel])
        return await append(broker, appends)

    patch.setattr(RedisBroker, "append", appended)


def one_after_the_other(patch: pytest.MonkeyPatch) -> None:
    append = RedisBroker.append

    async def appended(broker: RedisBroker, appends: Sequence[Append]) -> list[Appended | BrokerError]:
        return [result for each in appends for result in await append(broker, [each])]

    patch.setattr(RedisBroker, "append", appended)


WEBSOCKET = {"kind": "websocket"}
IDLE = {"kind": "websocket", "loop_name": "asyncio"}
UVLOOP = {"kind": "websocket", "loop_name": "uvloop"}
MUTANTS = {
    "JSON for each client": Mutant(writes(json_for_each), test_fan_out.test_a_delivery_is_one_write, WEBSOCKET),
    "a copy for each client": Mutant(
        writes(copy_for_each), test_fan_out.test_all_clients_are_given_the_same_object, WEBSOCKET
    ),
    "a copy that stays": Mutant(writes(copy_for_each), test_fan_out.test_no_memory_is_taken_for_a_delivery, WEBSOCKET),
    "a copy of the links": Mutant(a_copy_of_the_links, test_fan_out.test_no_memory_is_taken_for_a_delivery, WEBSOCKET),
    "an encoding for each framing": Mutant(
        encoded_again, test_fan_out.test_the_work_for_a_publication_does_not_know_the_clients, WEBSOCKET
    ),
    "an encoding for each who comes back": Mutant(
        encoded_again, test_fan_out.test_who_comes_back_costs_no_encoding_and_no_read, WEBSOCKET
    ),
    "a call more for each flush": Mutant(
        receives(Hub.stats), test_fan_out.test_a_flush_costs_the_same_whatever_it_holds, WEBSOCKET
    ),
    "a walk over all channels": Mutant(
        receives(look_at_all_channels),
        test_fan_out.test_a_publication_costs_the_same_beside_many_channels_and_behind_a_long_history,
        {"kept": 0, "others": 300},
    ),
    "a walk over all that is kept": Mutant(
        receives(look_at_all_that_is_kept),
        test_fan_out.test_a_publication_costs_the_same_beside_many_channels_and_behind_a_long_history,
        {"kept": 5_000, "others": 0},
    ),
    "two writes": Mutant(two_writes, test_wire.test_what_gathers_is_one_write_for_each_client, WEBSOCKET),
    "two sends": Mutant(two_writes, test_wire.test_a_delivery_is_one_send_on_asyncio, WEBSOCKET),
    "a flush for each": Mutant(a_flush_for_each, test_wire.test_what_gathers_is_one_write_for_each_client, WEBSOCKET),
    "a longer name": Mutant(a_longer_name, test_wire.test_a_publication_has_so_many_bytes_beside_its_data, WEBSOCKET),
    "a task for each client": Mutant(opens(a_task), test_idle.test_an_idle_client_is_a_few_objects, IDLE),
    "a timer for each client": Mutant(opens(a_timer), test_idle.test_an_idle_client_is_a_few_objects, IDLE),
    "a list for each client": Mutant(opens(a_list), test_idle.test_an_idle_client_is_a_few_objects, UVLOOP),
    "a slot for each client": Mutant(a_slot, test_idle.test_an_idle_client_is_a_few_objects, UVLOOP),
    "a buffer for each client": Mutant(opens(a_buffer), test_idle.test_an_idle_client_has_so_much_memory, WEBSOCKET),
    "a look for each reader": Mutant(
        a_head_for_each, test_store.test_who_joins_a_channel_that_is_followed_asks_the_broker_nothing
    ),
    "a command more": Mutant(
        one_command_more, test_store.test_a_publication_is_one_script, {"kind": "without a history"}
    ),
    "one append after the other": Mutant(one_after_the_other, test_store.test_what_waits_together_leaves_in_one_write),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_what_slows_hybrid_down_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        _run(mutant)


def _run(mutant: Mutant) -> None:
    running = mutant.test(**mutant.arguments)
    if inspect.iscoroutine(running):
        asyncio.run(running)
