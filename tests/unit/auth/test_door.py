from __future__ import annotations

import dataclasses

import pytest

from hybrid.auth.door import Door, address_group
from hybrid.errors import LimitError
from hybrid.limits import Limits

LIMITS = dataclasses.replace(Limits(), unauthenticated_per_address_max=3, unauthenticated_max=5)


def test_one_address_may_hold_so_many_places_and_no_more() -> None:
    door = Door(LIMITS)
    held = [door.enter("192.0.2.1") for _ in range(3)]
    with pytest.raises(LimitError) as caught:
        door.enter("192.0.2.1")
    assert caught.value.row.name == "rate_limited"
    assert caught.value.limit == "unauthenticated_per_address_max"
    assert caught.value.retry_after_s == 2.0
    door.enter("192.0.2.2")  # another address is another matter
    held[0].leave()
    door.enter("192.0.2.1")


def test_all_addresses_together_may_hold_so_many_places_and_no_more() -> None:
    door = Door(LIMITS)
    held = [door.enter(f"192.0.2.{n}") for n in range(5)]
    with pytest.raises(LimitError) as caught:
        door.enter("198.51.100.1")
    assert caught.value.row.name == "rate_limited"
    assert caught.value.limit == "unauthenticated_max"
    assert caught.value.retry_after_s == LIMITS.auth_timeout_s
    held[2].leave()
    door.enter("198.51.100.1")
    assert door.count == 5


def test_leaving_twice_gives_back_one_place() -> None:
    door = Door(LIMITS)
    first, _second = door.enter("192.0.2.1"), door.enter("192.0.2.1")
    first.leave()
    first.leave()
    assert door.count == 1


def test_who_has_left_is_forgotten() -> None:
    door = Door(dataclasses.replace(Limits(), unauthenticated_max=10_000))
    held = [door.enter(f"2001:db8:{n:x}::1") for n in range(1_000)]
    for admission in held:
        admission.leave()
    assert door.count == 0
    assert door._per_group == {}


def test_a_refusal_takes_no_place() -> None:
    door = Door(LIMITS)
    for _ in range(3):
        door.enter("192.0.2.1")
    for _ in range(10):
        with pytest.raises(LimitError):
            door.enter("192.0.2.1")
    assert door.count == 3


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("unix:", "192.0.2.1", False),
    ],
)
def test_an_ipv6_customer_holds_a_whole_64(one: str, other: str, is_same: bool) -> None:
    assert (address_group(one) == address_group(other)) is is_same


def test_a_64_shares_its_places() -> None:
    door = Door(LIMITS)
    for n in range(3):
        door.enter(f"2001:db8::{n:x}")
    with pytest.raises(LimitError):
        door.enter("2001:db8::ffff")
