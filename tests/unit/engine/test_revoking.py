"""How a node learns what was revoked, and how it passes over what is open: in virtual time, on a store in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from hybrid.auth.revocation import Key, Revocation, RevocationPage, Revocations
from hybrid.broker.memory_revocations import MemoryRevocationStore
from hybrid.engine import holders as holders_module
from hybrid.engine import revoking as revoking_module
from hybrid.engine.holders import Holder, Match, sliced
from hybrid.engine.revoking import Revoking, one_of
from hybrid.engine.tasks import Tasks
from hybrid.engine.wheel import Wheel
from hybrid.errors import BrokerError, LimitError, ProtocolError
from hybrid.limits import Limits
from hybrid.model import Principal
from tests.support.virtual_time import clock, in_virtual_time, settle

ISSUER = "https://issuer.test"
LIMITS = replace(Limits(), revocation_kept_s=1_000.0)
LOOK_S = LIMITS.revocation_look_s


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


class Store(MemoryRevocationStore):
    """Away, mute and forgetful on demand."""

    is_away = False
    is_mute = False
    cannot_write = False
    reads = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.doubts: list[Callable[[], None]] = []

    async def listen(self, look: Callable[[], None], doubt: Callable[[], None]) -> None:
        if self.is_away:
            raise BrokerError
        self.doubts.append(doubt)
        await super().listen(lambda: None if self.is_mute else look(), doubt)

    async def read(self, cursor: bytes, limit: int) -> RevocationPage:
        self.reads += 1
        if self.is_away:
            raise BrokerError
        await asyncio.sleep(0)
        return await super().read(cursor, limit)

    async def restore(self, revocations: Iterable[Revocation]) -> None:
        if self.is_away or self.cannot_write:
            raise BrokerError
        await super().restore(list(revocations))

    def lose_all(self) -> None:
        self._entries.clear()

    def lose(self, value: str) -> None:
        """A replica without it was promoted."""
        for key in [key for key in self._entries if key[2] == value]:
            del self._entries[key]


class Open:
    """Something open; a `Holder`."""

    def __init__(self, subject: str) -> None:
        self.principal = Principal(issuer=ISSUER, subject=subject, token_hash=subject.encode())
        self.is_ended = False
        self.looks = 0

    def principals(self) -> Iterable[Principal]:
        return (self.principal,)

    def end_if(self, match: Match) -> Key | None:
        self.looks += 1
        reason = None if self.is_ended else match(self.principal)
        self.is_ended = self.is_ended or reason is not None
        return reason

    def receive_again(self, principal: Principal) -> None:
        self.principal = principal


class Node:
    def __init__(self, store: MemoryRevocationStore, *subjects: str, limits: Limits = LIMITS) -> None:
        self.wheel, self.tasks = Wheel(clock()), Tasks()
        self.revocations = Revocations(limits, clock())
        self.open = [Open(subject) for subject in subjects]
        self.revoking = Revoking(store, self.revocations, limits, clock(), self.wheel, self.tasks, holders=self.holders)

    def holders(self) -> Iterable[Holder]:
        return list(self.open)

    def knows(self, value: str) -> bool:
        return any(revocation.value == value for revocation in self.revocations.all())

    @property
    def ended(self) -> list[str]:
        return [one.principal.subject for one in self.open if one.is_ended]


@asynccontextmanager
async def node(store: MemoryRevocationStore, *subjects: str, limits: Limits = LIMITS) -> AsyncIterator[Node]:
    made = Node(store, *subjects, limits=limits)
    await made.revoking.start()
    yield made
    await made.tasks.close()
    made.wheel.close()


@in_virtual_time
async def test_what_is_revoked_at_one_node_ends_at_both_at_once() -> None:
    store = Store(clock(), LIMITS)
    async with node(store, "alice", "bob", "alice") as a, node(store, "alice", "carol") as b:
        start_s = clock().time()
        done = await a.revoking.revoke("subject", ISSUER, "alice")
        await settle()
        assert (a.ended, b.ended) == (["alice", "alice"], ["alice"])
        assert (done.ended_here, done.revocation.key) == (2, ("subject", ISSUER, "alice"))
        assert clock().time() == start_s, "nobody waits for a timer"
        assert (await b.revoking.revoke("subject", ISSUER, "bob")).ended_here == 0
        await settle()
        await asyncio.sleep(1)
        assert (a.ended, b.ended) == (["alice", "bob", "alice"], ["alice"])


@in_virtual_time
async def test_a_signal_that_is_lost_costs_one_look() -> None:
    store = Store(clock(), LIMITS)
    async with node(store, "alice") as a, node(store) as b:
        store.is_mute = True
        await b.revoking.revoke("subject", ISSUER, "alice")
        await settle()
        assert a.ended == []
        await asyncio.sleep(LOOK_S * 1.2 + 0.5)
        assert a.ended == ["alice"]


@in_virtual_time
async def test_a_store_that_is_away_at_the_start_is_tried_again_and_nothing_is_known_until_then() -> None:
    store = Store(clock(), LIMITS)
    await store.append("jti", ISSUER, "t1")
    store.is_away = True
    async with node(store) as a:
        await asyncio.sleep(5)
        assert not a.revocations.is_known
        store.is_away = False
        await asyncio.sleep(2)
        assert a.revocations.is_known
        assert a.knows("t1")
        await store.append("jti", ISSUER, "t2")
        await settle()
        assert a.knows("t2"), "it listens as well"


@in_virtual_time
async def test_a_store_that_goes_away_later_takes_nothing_back() -> None:
    store = Store(clock(), LIMITS)
    async with node(store) as a:
        await a.revoking.revoke("jti", ISSUER, "t1")
        store.is_away = True
        await asyncio.sleep(60)
        assert a.revocations.is_known
        assert a.knows("t1")


@in_virtual_time
async def test_many_pages_are_read_to_the_end() -> None:
    store = Store(clock(), LIMITS)
    for number in range(revoking_module.PAGE * 2 + 1):
        await store.append("jti", ISSUER, f"t{number}")
    async with node(store) as a:
        assert len(a.revocations) == revoking_module.PAGE * 2 + 1


@in_virtual_time
async def test_what_the_store_has_lost_is_kept_and_brought_back() -> None:
    """A failover, or FLUSHALL: a node that starts afterwards must refuse what this one refuses."""
    store = Store(clock(), LIMITS)
    async with node(store) as a:
        first = await a.revoking.revoke("subject", ISSUER, "alice")
        await asyncio.sleep(1)
        store.lose_all()
        await asyncio.sleep(LOOK_S * 1.2 + 0.5)
        assert a.knows("alice")
        async with node(store, "alice") as b:
            assert b.revocations.all() == [first.revocation], "as of then, not as of now"


@in_virtual_time
async def test_what_was_lost_is_noticed_though_others_came_since() -> None:
    store = Store(clock(), LIMITS)
    async with node(store) as a:
        for value in ("t1", "t2"):
            await a.revoking.revoke("jti", ISSUER, value)
        await asyncio.sleep(1)
        store.lose_all()
        await store.append("jti", ISSUER, "t3")
        await asyncio.sleep(1)
        assert sorted(revocation.value for revocation in a.revocations.all()) == ["t1", "t2", "t3"]
        assert len((await store.read(b"", 9)).revocations) == 3


@in_virtual_time
async def test_what_was_lost_before_anybody_read_it_is_brought_back_once_the_connection_broke() -> None:
    """The cursor stands before it, and so goes on as if nothing was missing."""
    store = Store(clock(), LIMITS)
    await store.append("jti", ISSUER, "old")
    store.is_mute = True
    async with node(store) as a, node(store) as b:
        await a.revoking.revoke("subject", ISSUER, "alice")
        store.lose("alice")
        await asyncio.sleep(20)
        assert not b.knows("alice")
        for doubt in store.doubts:
            doubt()
        await asyncio.sleep(20)
        assert a.knows("alice")
        assert b.knows("alice")


@in_virtual_time
async def test_what_could_not_be_brought_back_is_tried_again() -> None:
    store = Store(clock(), LIMITS)
    await store.append("jti", ISSUER, "old")
    async with node(store) as a:
        await a.revoking.revoke("jti", ISSUER, "lost")
        await asyncio.sleep(5)
        store.lose("lost")
        store.cannot_write = True
        store.doubts[0]()
        await asyncio.sleep(10)
        assert [each.value for each in (await store.read(b"", 9)).revocations] == ["old"]
        store.cannot_write = False
        await asyncio.sleep(10)
        assert {each.value for each in (await store.read(b"", 9)).revocations} == {"old", "lost"}


@in_virtual_time
async def test_what_is_over_is_not_brought_back() -> None:
    store = Store(clock(), LIMITS)
    async with node(store) as a:
        await a.revoking.revoke("jti", ISSUER, "t1")
        await asyncio.sleep(LIMITS.revocation_kept_s + 10)
        assert len(a.revocations) == 0
        assert (await store.read(b"", 9)).revocations == []


@in_virtual_time
async def test_many_that_come_together_are_one_look_and_one_pass() -> None:
    store = Store(clock(), LIMITS)
    subjects = [f"s{number}" for number in range(100)]
    async with node(store, *subjects) as a, node(store) as b:
        reads = store.reads
        await asyncio.gather(*(b.revoking.revoke("subject", ISSUER, subject) for subject in subjects))
        await asyncio.sleep(1)
        assert a.ended == subjects
        assert max(one.looks for one in a.open) <= 3
        assert store.reads - reads <= 6


@in_virtual_time
async def test_passes_rest_in_between() -> None:
    """A flood of revocations, each of which is news, leaves the node to its other work."""
    store = Store(clock(), LIMITS)
    async with node(store, "alice") as a:
        for number in range(100):
            await store.append("jti", ISSUER, f"t{number}")
            await asyncio.sleep(0.01)
        assert 5 <= a.open[0].looks <= 1.0 / revoking_module._REST_S + 2


@in_virtual_time
async def test_those_who_revoke_one_after_the_other_share_passes() -> None:
    async with node(Store(clock(), LIMITS), "alice") as a:
        asked = []
        for number in range(100):
            asked.append(asyncio.ensure_future(a.revoking.revoke("jti", ISSUER, f"t{number}")))
            await asyncio.sleep(0.01)
        await asyncio.gather(*asked)
        assert 5 <= a.open[0].looks <= 1.0 / revoking_module._REST_S + 2


@in_virtual_time
async def test_again_is_not_written_again_and_still_ends_what_is_open() -> None:
    store = Store(clock(), LIMITS)
    async with node(store) as a:
        first = await a.revoking.revoke("jti", ISSUER, "t1")
        await asyncio.sleep(10)
        cursor = (await store.read(b"", 9)).cursor
        again = await a.revoking.revoke("jti", ISSUER, "t1")
        assert again.revocation == first.revocation
        assert (await store.read(b"", 9)).cursor == cursor
        subject = await a.revoking.revoke("subject", ISSUER, "alice")
        await asyncio.sleep(1)
        assert (await a.revoking.revoke("subject", ISSUER, "alice")).revocation.at_s > subject.revocation.at_s


@in_virtual_time
async def test_past_the_bound_it_is_told_and_nothing_is_given_up() -> None:
    limits = replace(LIMITS, revocations_max=2)
    store = Store(clock(), limits)
    async with node(store, "alice", limits=limits) as a:
        await a.revoking.revoke("jti", ISSUER, "t1")
        await a.revoking.revoke("jti", ISSUER, "t2")
        with pytest.raises(LimitError, match="revocations_max"):
            await a.revoking.revoke("subject", ISSUER, "alice")
        assert sorted(revocation.value for revocation in a.revocations.all()) == ["t1", "t2"]


@in_virtual_time
async def test_what_cannot_be_written_is_told_and_has_no_effect_here() -> None:
    class Refusing(Store):
        async def append(self, kind: object, issuer: str, value: str) -> Revocation:
            raise BrokerError

    async with node(Refusing(clock(), LIMITS), "alice") as a:
        with pytest.raises(BrokerError):
            await a.revoking.revoke("subject", ISSUER, "alice")
        await asyncio.sleep(1)
        assert (a.ended, len(a.revocations)) == ([], 0)


@pytest.mark.parametrize("value", ["", "x" * 256, "a\nb", "\ud800", "\u202e"])
def test_a_value_that_no_token_can_have_is_told(value: str) -> None:
    @in_virtual_time
    async def test() -> None:
        async with node(Store(clock(), LIMITS)) as a:
            with pytest.raises(ProtocolError):
                await a.revoking.revoke("subject", ISSUER, value)

    test()


def test_exactly_one_is_named() -> None:
    assert one_of({"jti": None, "sid": "s", "subject": None, "client": None}) == ("sid", "s")
    for given in ({}, {"jti": None}, {"jti": "a", "sid": "b"}):
        with pytest.raises(ProtocolError, match="exactly one"):
            one_of(given)


async def test_a_pass_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slice of it is longer than it may be, by far."""
    monkeypatch.setattr(holders_module, "SLICE_S", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    passed = [item async for item in sliced(range(50))]
    task.cancel()
    assert passed == list(range(50))
    assert turns >= 49


@in_virtual_time
async def test_closing_in_the_middle_leaves_nothing_behind() -> None:
    store = Store(clock(), LIMITS)
    async with node(store, "alice") as a:
        asked = asyncio.ensure_future(a.revoking.revoke("subject", ISSUER, "alice"))
        await asyncio.sleep(0)
        await a.tasks.close()
        with pytest.raises(asyncio.CancelledError):
            await asked
        with pytest.raises(asyncio.CancelledError):
            await a.revoking.revoke("subject", ISSUER, "alice")
