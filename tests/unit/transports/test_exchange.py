"""How a request that waits notices that its client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from hybrid.engine.flight import Bodies
from hybrid.limits import Limits
from hybrid.transports.exchange import Exchange
from hybrid.transports.watch import PeerGone, Watch


class Peer:
    """The other end of `receive`."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()

    def exchange(self) -> Exchange:
        async def send(message: MutableMapping[str, Any]) -> None: ...

        return Exchange({"type": "http", "headers": []}, self.messages.get, send)

    def go(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})


async def waiting(peer: Peer, answered: asyncio.Future[int]) -> int:
    with peer.exchange().unless_gone():
        return await answered


async def test_an_answer_is_returned_and_nothing_is_left_behind() -> None:
    peer, answered = Peer(), asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    asking = asyncio.create_task(waiting(peer, answered))
    await asyncio.sleep(0)
    answered.set_result(3)
    assert await asking == 3
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_who_goes_ends_the_wait() -> None:
    peer, answered = Peer(), asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(waiting(peer, answered))
    await asyncio.sleep(0)
    peer.go()
    with pytest.raises(PeerGone):
        await asking
    assert answered.cancelled()
    assert asking.cancelling() == 0, "whatever its task awaits next must not be cancelled"


async def test_who_goes_with_the_answer_on_its_way_cancels_nothing_behind_it() -> None:
    """The end may be seen in the very turn in which the answer is there."""
    for turns in range(6):
        peer, answered = Peer(), asyncio.get_running_loop().create_future()

        async def ask(peer: Peer = peer, answered: asyncio.Future[int] = answered) -> int:
            try:
                result = await waiting(peer, answered)
            except PeerGone:
                result = 0
            for _ in range(5):
                await asyncio.sleep(0)  # the answer is written
            return result

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.go()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not answered.done():
            answered.set_result(3)
        assert await asking in (0, 3)


async def test_a_cancelled_request_is_cancelled() -> None:
    peer, answered = Peer(), asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(waiting(peer, answered))
    await asyncio.sleep(0)
    peer.go()
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises((asyncio.CancelledError, PeerGone)):
        await asking
    assert answered.cancelled()


async def test_who_has_gone_before_the_wait_is_not_waited_for_and_cancels_nothing_later() -> None:
    class Lost:
        is_lost = True
        on_lost: Callable[[], None] | None = None

    with pytest.raises(PeerGone), Watch(Peer().messages.get, Lost()):  # type: ignore[arg-type]
        raise AssertionError("nobody is there to be answered")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_empty_parts_of_a_body_leave_nothing_counted() -> None:
    peer, bodies = Peer(), Bodies(Limits())
    exchange = peer.exchange()
    exchange.scope["client"] = ("192.0.2.1", 1)
    exchange.bodies = bodies
    for part, has_more in ((b"", True), (b"", True), (b"", False)):
        peer.messages.put_nowait({"type": "http.request", "body": part, "more_body": has_more})
    assert await exchange.body(10) == b""
    assert (bodies.held_bytes, bodies._per_address) == (0, {})
