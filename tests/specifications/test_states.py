"""The drawings of the state tables show each transition once, and nothing that is not in a table."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from hybrid.protocol.states import CHANNEL, LEG, SESSION, SUBSCRIPTION, LegEvent, LegState
from hybrid.specifications.drawing import draw
from hybrid.specifications.states import describe, drawings

TABLES: dict[str, Any] = {"leg": LEG, "session": SESSION, "subscription": SUBSCRIPTION, "channel": CHANNEL}
SVG = "{http://www.w3.org/2000/svg}"


def texts(document: str, of_class: str | None) -> list[str]:
    found = ElementTree.fromstring(document).iter(f"{SVG}text")
    return [item.text or "" for item in found if item.get("class") == of_class]


def words(labels: list[str]) -> list[str]:
    return sorted(word for label in labels for word in label.removeprefix("stays at ").split(", "))


@pytest.mark.parametrize("name", TABLES)
def test_each_state_and_transition_is_drawn_once(name: str) -> None:
    table, document = TABLES[name], drawings()[name]
    assert texts(document, "name") == [state.name for state in table]
    expected = [(event.name.lower().replace("_", " "), state is after) for state in table
                for event, after in table[state].items()]  # fmt: skip
    assert words(texts(document, "stays")) == sorted(word for word, stays in expected if stays)
    assert words(texts(document, None)) == sorted(word for word, stays in expected if not stays)
    leading = {(state, after) for state in table for after in table[state].values() if after is not state}
    assert document.count('marker-end="url(#tip)"') == len(leading)


@pytest.mark.parametrize("name", TABLES)
def test_nothing_runs_out_of_the_picture(name: str) -> None:
    root = ElementTree.fromstring(drawings()[name])
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", -1)) > 0
        assert float(box.get("x", 0)) + float(box.get("width", 0)) < width
        assert float(box.get("y", -1)) > 0
        assert float(box.get("y", 0)) + float(box.get("height", 0)) < height
    boxes = [(float(box.get("y", 0)), float(box.get("height", 0))) for box in root.iter(f"{SVG}rect")]
    assert all(upper + tall < lower for (upper, tall), (lower, _) in itertools.pairwise(boxes))


def test_another_table_is_another_drawing() -> None:
    changed = {**LEG, LegState.CURRENT: {LegEvent.ENDED: LegState.CANDIDATE}}
    assert draw(changed, "x") != draw(LEG, "x")


def test_the_page_has_every_machine() -> None:
    for name in TABLES:
        assert f"images/states-{name}.svg" in describe()
