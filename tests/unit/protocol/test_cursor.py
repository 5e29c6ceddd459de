from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hybrid.errors import ProtocolError
from hybrid.limits import CURSOR_MAX_BYTES, OFFSET_MAX
from hybrid.model import START, Position
from hybrid.protocol.commands import WirePosition
from hybrid.protocol.cursor import (
    composite_max_bytes,
    format_composite,
    format_cursor,
    from_wire,
    parse_composite,
    parse_cursor,
    to_wire,
)
from tests.support.vectors import attempt, outcome, vectors


def shown(position: Position) -> Any:
    return msgspec.to_builtins(to_wire(position))


@pytest.mark.parametrize("case", vectors("cursors"))
def test_cursor(case: dict[str, Any]) -> None:
    assert attempt(lambda text: shown(parse_cursor(text)), case["text"]) == outcome(case)


@pytest.mark.parametrize("case", [case for case in vectors("cursors") if "value" in case.values[0]])
def test_cursor_is_written_as_it_is_read(case: dict[str, Any]) -> None:
    assert format_cursor(from_wire(msgspec.convert(case["value"], WirePosition))) == case["text"]


@pytest.mark.parametrize("case", vectors("composites"))
def test_composite(case: dict[str, Any]) -> None:
    def parse(text: str) -> Any:
        return {channel: shown(position) for channel, position in parse_composite(text).items()}

    assert attempt(parse, case["text"]) == outcome(case)


@pytest.mark.parametrize("case", [case for case in vectors("composites") if "value" in case.values[0]])
def test_composite_is_written_in_one_form(case: dict[str, Any]) -> None:
    written = format_composite(
        {channel: from_wire(msgspec.convert(value, WirePosition)) for channel, value in case["value"].items()}
    )
    assert (written == case["text"]) == case.get("is_canonical", True)
    assert parse_composite(written) == parse_composite(case["text"])


def test_composite_of_the_largest_size_and_one_more() -> None:
    names = {f"{'n' * 200}{number}": START for number in range(10)}
    text = format_composite(names)
    names["m" * (CURSOR_MAX_BYTES - len(text) - len(",=0"))] = START
    text = format_composite(names)
    assert len(text) == CURSOR_MAX_BYTES
    assert parse_composite(text) == names
    names["x"] = START
    with pytest.raises(ProtocolError) as caught:
        format_composite(names)
    assert caught.value.row.name == "too_large"


def test_composite_never_outgrows_what_was_told_beforehand() -> None:
    channels = ["news", "chat:1", "café"]
    largest = Position(OFFSET_MAX, "z" * 16, "f" * 8)
    assert len(format_composite(dict.fromkeys(channels, largest))) == composite_max_bytes(channels)


@pytest.mark.parametrize(
    "position",
    [
        WirePosition(0, "k", ""),
        WirePosition(0, "", "00000000"),
        WirePosition(1),
        WirePosition(1, "k", "0000000"),
        WirePosition(1, "k", "0000000G"),
        WirePosition(1, "k\n", "00000000"),
        WirePosition(1, "k", "00000000\n"),
        WirePosition(1, "a" * 17, "00000000"),
    ],
)
def test_wire_position_of_another_form(position: WirePosition) -> None:
    with pytest.raises(ProtocolError) as caught:
        from_wire(position)
    assert caught.value.row.name == "bad_request"


def test_wire_position_both_ways() -> None:
    position = Position(42, "k3f9", "9c1d07aa")
    assert from_wire(to_wire(position)) == position
    assert from_wire(to_wire(START)) == START
    assert msgspec.json.encode(to_wire(START)) == b'{"offset":0}'
