"""What `RevocationStore` promises, held against every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hybrid.auth.revocation import Revocation, RevocationPage, RevocationStore
from hybrid.errors import LimitError
from hybrid.limits import Limits
from tests.support.clock import FakeClock

ISSUER = "https://issuer.test"
KEPT_S = 1_000.0
Make = Callable[[Limits], RevocationStore]


@pytest.fixture
def store(revoked: Make) -> RevocationStore:
    return revoked(Limits(revocation_kept_s=KEPT_S, revocations_max=10))


async def whole(store: RevocationStore) -> list[Revocation]:
    page = await store.read(b"", 100)
    assert not page.has_more
    return page.revocations


async def test_what_was_revoked_is_read_as_it_was_and_in_order(store: RevocationStore) -> None:
    made = [
        await store.append("jti", ISSUER, "t1"),
        await store.append("sid", ISSUER, "日本 {x}"),
        await store.append("subject", "", "t1"),
        await store.append("client", ISSUER, "t1"),
    ]
    assert await whole(store) == made
    assert [revocation.key for revocation in made] == [
        ("jti", ISSUER, "t1"),
        ("sid", ISSUER, "日本 {x}"),
        ("subject", "", "t1"),
        ("client", ISSUER, "t1"),
    ]
    assert made[0].at_s <= made[-1].at_s < made[0].at_s + 60


async def test_an_empty_store(store: RevocationStore) -> None:
    assert await store.read(b"", 100) == RevocationPage([], b"", is_continued=True, has_more=False)


async def test_reading_goes_on_after_a_cursor(store: RevocationStore) -> None:
    made = [await store.append("jti", ISSUER, f"t{number}") for number in range(5)]
    first = await store.read(b"", 2)
    assert (first.revocations, first.has_more) == (made[:2], True)
    second = await store.read(first.cursor, 2)
    assert (second.revocations, second.is_continued, second.has_more) == (made[2:4], True, True)
    third = await store.read(second.cursor, 2)
    assert (third.revocations, third.is_continued, third.has_more) == (made[4:], True, False)
    again = await store.read(third.cursor, 2)
    assert (again.revocations, again.is_continued, again.cursor) == ([], True, third.cursor)
    last = await store.append("jti", ISSUER, "t9")
    assert (await store.read(again.cursor, 2)).revocations == [last]


async def test_again_is_kept_once_at_its_later_time(store: RevocationStore, clock: FakeClock) -> None:
    first = await store.append("subject", ISSUER, "alice")
    other = await store.append("subject", ISSUER, "bob")
    clock.advance(5)
    again = await store.append("subject", ISSUER, "alice")
    assert 4 < again.at_s - first.at_s < 60
    assert await whole(store) == [other, again]


async def test_whose_last_one_came_again_reads_from_the_first_on(store: RevocationStore) -> None:
    """Its place is empty, and so is the place of what was lost: the two cannot be told apart."""
    await store.append("jti", ISSUER, "t1")
    cursor = (await store.read(b"", 100)).cursor
    await store.append("jti", ISSUER, "t1")
    page = await store.read(cursor, 100)
    assert not page.is_continued
    assert [revocation.value for revocation in page.revocations] == ["t1"]


async def test_each_ends_in_time_and_makes_room(store: RevocationStore, clock: FakeClock) -> None:
    await store.append("jti", ISSUER, "old")
    cursor = (await store.read(b"", 100)).cursor
    clock.advance(KEPT_S - 10)
    young = await store.append("jti", ISSUER, "young")
    assert [revocation.value for revocation in (await store.read(cursor, 9)).revocations] == ["young"]
    clock.advance(20)
    newest = await store.append("jti", ISSUER, "newest")
    assert await whole(store) == [young, newest]
    assert not (await store.read(cursor, 9)).is_continued


async def test_past_the_bound_none_is_taken_and_none_given_up(store: RevocationStore) -> None:
    made = [await store.append("jti", ISSUER, f"t{number}") for number in range(10)]
    with pytest.raises(LimitError) as refused:
        await store.append("jti", ISSUER, "one more")
    assert (refused.value.limit, refused.value.row.name) == ("revocations_max", "limit_exceeded")
    assert await whole(store) == made
    again = await store.append("jti", ISSUER, "t3")  # needs no room
    assert await whole(store) == [*made[:3], *made[4:], again]


async def test_what_was_lost_is_brought_back_at_its_own_time(store: RevocationStore, clock: FakeClock) -> None:
    there = await store.append("subject", ISSUER, "alice")
    cursor = (await store.read(b"", 100)).cursor
    lost = Revocation("subject", ISSUER, "bob", there.at_s - 300)
    older = Revocation("subject", ISSUER, "alice", there.at_s - 300)
    await store.restore([lost, older])
    assert await whole(store) == [there, lost], "what is there stays as it is"
    assert (await store.read(cursor, 100)).revocations == [lost], "behind what others have read"
    again = await store.append("subject", ISSUER, "bob")
    assert await whole(store) == [there, again]


async def test_bringing_back_is_bounded(store: RevocationStore) -> None:
    for number in range(9):
        await store.append("jti", ISSUER, f"t{number}")
    with pytest.raises(LimitError, match="revocations_max"):
        await store.restore([Revocation("jti", ISSUER, f"r{number}", 1_800_000_000.0) for number in range(3)])
    assert len(await whole(store)) == 10


async def test_whoever_listens_is_told_and_then_finds_it(store: RevocationStore) -> None:
    told = asyncio.Event()
    await store.listen(told.set, lambda: None)
    for act in (
        store.append("jti", ISSUER, "t1"),
        store.restore([Revocation("jti", ISSUER, "t2", 1_800_000_000.0)]),
    ):
        told.clear()
        await act
        async with asyncio.timeout(10):
            await told.wait()
    assert [revocation.value for revocation in await whole(store)] == ["t1", "t2"]
