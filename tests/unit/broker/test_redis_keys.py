"""What everything is called in Redis: no name that a client thinks of chooses a slot or reads like a pattern."""

from __future__ import annotations

import re

import pytest
from redis.crc import key_slot

from hybrid.broker.redis.keys import Keys

KEYS = Keys("hybrid")


@pytest.mark.parametrize("name", ["a", "chat:1", "{x}", "a{b}c", "}{", "*", "[a-z]?", "a b\\c", "日本", "x" * 255])
def test_the_keys_of_a_channel_share_a_slot_that_its_whole_name_chooses(name: str) -> None:
    keys = KEYS.of(name)
    everything = [*keys, keys.idempotency(b"00ff"), *keys.presence()]
    assert len({key_slot(key) for key in everything}) == 1
    for key in everything:
        assert re.fullmatch(rb"hybrid:d:\{[A-Za-z0-9._~%-]+\}(:[a-z0-9:]+)?", key)


def test_braces_in_a_name_do_not_choose_its_slot() -> None:
    assert len({key_slot(KEYS.of(f"{{same}}{number}").topic) for number in range(20)}) > 10


def test_names_are_apart() -> None:
    names = ["a", "A", "a:h", "a%3Ah", "{a}", "ab", "a/b"]
    assert len({KEYS.of(name).topic for name in names}) == len(names)


def test_data_and_control_have_prefixes_of_their_own() -> None:
    assert all(key.startswith(b"hybrid:d:") for key in KEYS.of("c:layout"))
    for key in (KEYS.layout, KEYS.nodes, KEYS.generation, KEYS.due, KEYS.claimed, KEYS.ticket(b"x"), KEYS.call(b"x")):
        assert key.startswith(b"hybrid:c:")
    assert KEYS.node("n").startswith(b"hybrid:c:")


def test_keys_of_one_script_share_a_slot() -> None:
    assert key_slot(KEYS.nodes) == key_slot(KEYS.generation)
    assert key_slot(KEYS.due) == key_slot(KEYS.claimed)
