"""What the zoo says of a run follows from what was seen, and each fault that was seen is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hybrid.model import Position
from tests.proxy.zoo import judge, report
from tests.proxy.zoo.direct import WAYS
from tests.proxy.zoo.records import Asked, Got, Records, Way

Log = list[tuple[Position, Any]]


def place(number: int) -> Position:
    return Position(number, "e", f"{number:08x}")


def data(number: int) -> dict[str, str]:
    return {"id": f"down-{number}"}


def seen(received: Sequence[int], published: int = 5) -> tuple[Records, dict[str, Log]]:
    """Publications 1 to `published`, a second apart, each received half a second later."""
    records = Records(Way("down"), Way("up"))
    for number in range(1, published + 1):
        records.down.asked.append(Asked(f"down-{number}", data(number), float(number), place(number)))
    stream = records.down.stream("client", Position(0))
    stream.items += [Got(place(number), data(number), number + 0.5) for number in received]
    return records, {"down": [(place(n), data(n)) for n in range(1, published + 1)], "up": []}


def verdict(*received: int) -> dict[str, Any]:
    told = judge.verdict(*seen(received))
    return {what: told[what] for what in ("lost", "repeated", "reordered") if told[what]}


def test_nothing_is_wrong() -> None:
    assert judge.verdict(*seen([1, 2, 3, 4, 5]))["findings"] == []
    assert verdict(1, 2, 3, 4, 5) == {}


@pytest.mark.parametrize(
    ("received", "found"),
    [
        ([1, 2, 4, 5], {"lost": 1}),
        ([1, 2, 3], {"lost": 2}),
        ([1, 2, 2, 3, 4, 5], {"repeated": 1}),
        ([1, 3, 2, 4, 5], {"reordered": 1}),
    ],
)
def test_what_is_wrong_is_counted(received: list[int], found: dict[str, int]) -> None:
    assert verdict(*received) == found
    assert judge.verdict(*seen(received))["findings"]


def test_what_was_published_and_is_not_in_the_log_is_lost() -> None:
    records, logs = seen([1, 2, 3, 4])
    del logs["down"][-1]
    assert judge.verdict(records, logs)["lost"] == 1


def test_the_order_of_the_publisher_is_looked_at() -> None:
    records, logs = seen([])
    logs["down"] = [(place(1), data(2)), (place(2), data(1))]
    assert judge.verdict(records, logs)["reordered"] == 1


def test_a_refusal_is_told_and_no_loss() -> None:
    records, logs = seen([1, 2, 3, 4, 5])
    records.up.asked.append(Asked("up-0", {"id": "up-0"}, 1.0, refused="queue full"))
    told = judge.verdict(records, logs)
    assert (told["lost"], told["refused"], told["findings"]) == (0, 1, ["up: up-0 was refused: queue full"])


def test_latency_is_from_sending_to_receipt() -> None:
    records, _ = seen([1, 2, 3])
    ids = judge.sent_since(records.down.asked, 2.0)
    assert judge.latencies(records.down, ids) == {"sent": 4, "received": 2, "p50_ms": 500, "p99_ms": 500}


def test_healed_is_when_both_ways_are() -> None:
    records, _ = seen([1, 2, 3, 4, 5])
    assert judge.healed_s(records, 3.0) is None
    records.up.asked.append(Asked("up-0", {}, 2.0, place(1), answered_s=3.1))
    assert judge.healed_s(records, 3.0) is None, "it was published before"
    records.up.asked.append(Asked("up-1", {}, 3.2, place(2), answered_s=4.0))
    assert judge.healed_s(records, 3.0) == 1.0


TRACE: list[list[Any]] = [
    [1_000, "leg", "websocket", "opened", None],
    [1_200, "leg", "websocket", "lost", "closed with 1006"],
    [1_300, "transport", "sse"],
    [5_000, "leg", "sse", "lost", "draining"],
    [6_000, "transport", "sse"],
    [9_000, "transport", "longpoll"],
]


def test_changes_are_of_transports_not_of_legs() -> None:
    assert judge.transports_of(TRACE) == ["sse", "longpoll"]
    assert judge.transports_of(TRACE, 2.0, 8.0) == ["sse"]
    assert judge.transports_of(TRACE, 9.5) == []


def test_reasons_are_the_clients_and_not_of_the_courses_own_faults() -> None:
    assert judge.unused(TRACE, "longpoll") == {"websocket": "closed with 1006", "sse": "draining"}
    assert judge.unused(TRACE, "longpoll", [(4.5, 6.0)])["sse"] == "left for a better one"


def test_the_page_tells_what_failed() -> None:
    animal = next(iter(WAYS))
    page = report.page({animal: {"node": {"at": "2026-01-02T03:04:05", "error": "cold: nothing | came"}}})
    assert "1 did not come to their end" in page
    assert f"| `{animal}` | Node | cold: nothing \\| came |" in page
    assert "Measured 2026-01-02" in page
