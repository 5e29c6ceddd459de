"""What is shown of a result: words, the live view, the report."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hybrid.bench import words
from hybrid.bench.chart import Chart, Line
from hybrid.bench.histogram import Histogram
from hybrid.bench.live import Live
from hybrid.bench.messages import Counted, Tally, Target, Tick
from hybrid.bench.plan import Plan, make
from hybrid.bench.record import Record
from hybrid.bench.report import report
from hybrid.bench.result import Result
from hybrid.bench.server import Sample

S = 1_000_000_000
TARGET = Target("live.example.com", "live.example.com", "", [], is_secure=True)


def told(record: Record, at_s: float, deliveries: int, *, busy: float = 0.4, **more: object) -> None:
    latency = Histogram()
    for number in range(deliveries):
        latency.add(1_000 + number)
    counted = Counted(10, deliveries, latency.pairs(), latency.max_us, int(at_s * S) if deliveries else 0)
    tick = Tick(
        at_ns=int(at_s * S),
        transports={"websocket": counted},
        sent=deliveries // 10,
        answered=deliveries // 10,
        busy_us=int(250_000 * busy),
        wall_us=250_000,
    )
    for name, value in more.items():
        setattr(tick, name, value)
    record.take(0, tick)


def recorded(plan: Plan | None = None, *, busy: float = 0.4, tally: Tally | None = None, **more: object) -> Record:
    """Ten seconds of a run that began at 0: connected after one, published from two to eight."""
    record = Record(plan or make(clients=10), 0)
    record.sampled("before", Sample(0.0, 50_000_000, 1), 0)
    record.begin("connect", 0)
    connects = [(1_000 * (n + 1), 950, 900) for n in range(10)]
    told(record, 0.9, 0, connects=connects)
    record.sampled("opened", Sample(0.01, 50_040_000, 1), S)
    record.begin("idle", S)
    record.sampled("idle", Sample(0.01, 50_050_000, 1), 2 * S)
    record.sampled("deliver", Sample(0.01, 50_050_000, 1), 2 * S)
    record.begin("deliver", 2 * S)
    for quarter in range(24):
        told(record, 2.25 + quarter / 4, 1_000, busy=busy, **more)
        record.sampled("now", Sample(0.01 + quarter / 20, 51_000_000, 1), int((2.25 + quarter / 4) * S))
    record.begin("drain", 8 * S)
    record.sampled("end", Sample(1.21, 51_000_000, 1), 8 * S)
    record.begin("end", 8 * S)
    record.tallies[0] = tally or Tally()
    return record


def result_of(record: Record, **more: bool) -> Result:
    return record.result(TARGET, "2026-01-02T03:04:05+00:00", was_interrupted=more.get("was_interrupted", False))


def test_the_figures_are_what_was_told() -> None:
    result = result_of(recorded())
    assert (result.exit_code, result.faults, result.load_side.is_limit) == (0, [], False)
    delivered, server = result.delivered, result.server
    assert (delivered.deliveries, delivered.deliveries_per_s, delivered.duration_s) == (24_000, 4_000.0, 6.0)
    assert (delivered.publications, delivered.publications_per_s) == (2_400, 400.0)
    assert server is not None
    assert (server.cpu_s, server.cpu_share, server.deliveries_per_cpu_s) == (1.2, 0.2, 20_000.0)
    assert (server.memory_per_client_bytes, server.connect_cpu_us) == (5_000.0, 1_000.0)
    assert (result.connect.first_ms, result.connect.last_ms, result.connect.each.max_ms) == (1.0, 10.0, 0.95)
    assert result.load_side.delivering is not None
    assert result.load_side.delivering.busy_share == 0.4


@pytest.mark.parametrize(
    ("tally", "words_of_it"),
    [
        (Tally(lost=3), "3 publications lost"),
        (Tally(repeated=1), "1 repeated"),
        (Tally(reordered=2), "2 out of order"),
        (Tally(unexpected=1), "the protocol does not know"),
        (Tally(incomplete=4), "4 clients that had not got everything"),
    ],
)
def test_each_fault_is_told_and_is_1(tally: Tally, words_of_it: str) -> None:
    result = result_of(recorded(tally=tally))
    assert result.exit_code == 1
    assert any(words_of_it in fault for fault in result.faults)
    assert "WRONG" in words.text(result)
    assert "Not everything was right" in report(result)


def test_resets_are_told_and_no_fault() -> None:
    result = result_of(recorded(tally=Tally(resets=7)))
    assert result.exit_code == 0
    assert "7 resets" in words.text(result)
    assert "7 resets" in report(result)


def test_a_process_that_told_nothing_at_the_end_is_a_fault() -> None:
    record = recorded()
    record.tallies.clear()
    result = result_of(record)
    assert (result.exit_code, result.order.is_checked_to_the_end) == (1, False)


@pytest.mark.parametrize(
    ("busy", "more", "reason"),
    [
        (0.9, {}, "90% of a core"),
        (0.4, {"starved_us": 100_000}, "40% of the time"),
        (0.4, {"late": [(bucket_us, 50) for bucket_us in (700,)], "late_max_us": 90_000}, "later than due"),
        (0.4, {"lag_max_us": 300_000}, "held up for 300 ms"),
    ],
    ids=["busy", "starved", "late", "lag"],
)
def test_it_says_when_the_load_side_is_the_limit(busy: float, more: dict[str, Any], reason: str) -> None:
    result = result_of(recorded(busy=busy, **more))
    assert result.load_side.is_limit
    assert any(reason in words_of_it for words_of_it in result.load_side.reasons), result.load_side.reasons
    assert "THE LOAD SIDE IS THE LIMIT" in words.text(result)
    assert "The load side is the limit" in report(result)


def test_a_load_that_is_the_limit_while_connecting_says_so() -> None:
    record = recorded()
    told(record, 0.4, 0, busy=0.99)
    reasons = result_of(record).load_side.reasons
    assert len(reasons) == 1
    assert reasons[0].startswith("while clients connected, a load process used")


def test_who_was_cut_and_did_not_come_back_is_a_fault() -> None:
    record = Record(make(clients=10, is_reconnect_storm=True), 0)
    told(record, 0.5, 0, connects=[(1_000, 900, 800)] * 10)
    record.begin("connect", 0)
    record.begin("idle", S)
    record.begin("reconnect", 2 * S)
    told(record, 3.0, 0, reconnects=[(5_000, 5_000, 4_000)] * 7)
    record.end_storm()
    record.tallies[0] = Tally()
    result = result_of(record)
    assert result.reconnect is not None
    assert (result.reconnect.clients, result.reconnect.ready, result.reconnect.failed) == (10, 7, 3)
    assert (result.exit_code, result.faults) == (1, ["3 clients that were cut did not come back"])


def test_who_was_cut_and_is_on_its_way_at_the_end_is_no_fault() -> None:
    """As an event stream that has lived long enough in the last moment; it has got everything."""
    record = recorded(cuts={"4412 rotated": 1})
    result = result_of(record)
    assert result.reconnect is None or result.reconnect.failed == 0
    assert (result.exit_code, result.faults) == (0, [])


def test_what_was_due_and_not_sent_is_told() -> None:
    record = recorded()
    record.unsent = 12
    assert "12 more were due, and could not be sent" in words.text(result_of(record))


def test_an_interruption_is_130() -> None:
    result = result_of(recorded(), was_interrupted=True)
    assert result.exit_code == 130
    assert "interrupted: these are the figures until then" in words.text(result)
    assert "Interrupted" in report(result)


def test_the_page_names_the_fields_that_the_json_has() -> None:
    page = (Path(__file__).parents[3] / "docs" / "bench.md").read_text()
    rows = re.findall(r"^\| (`\w+`.*?) \| (.*) \|$", page.split("## The JSON")[1], re.MULTILINE)
    result = result_of(recorded())
    result.reconnect = result.connect
    fields = json.loads(result.to_json())
    assert len(rows) >= 7
    for names, about in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert name in fields
            inside = json.dumps(fields[name])
            for part in re.findall(r"`([a-z_]+)(\*?)`", about) if isinstance(fields[name], dict) else ():
                assert f'"{part[0]}' in inside, (name, part)


# -- the report


class Page(HTMLParser):
    """Whether every element that is opened is closed, and all attributes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_stands_alone_and_has_the_figures() -> None:
    result = result_of(recorded())
    html = report(result)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert not {"src", "href", "onclick", "srcset", "data"} & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import|<script|<link|<img|<iframe", html)
    assert "default-src 'none'" in html
    for figure in ("4,000", "20,000", "5.0 KB", "10", "24,000 deliveries", "https://live.example.com", "2026-01-02"):
        assert figure in page.text, figure
    assert html.count("<svg") == 6
    assert "NaN" not in html
    assert "nan" not in page.text.lower().replace("nanoseconds", "")


def test_what_comes_from_elsewhere_is_escaped() -> None:
    record = recorded(tally=Tally(lost=1, examples=["<script>alert(1)</script>"]))
    record.cuts["<img src=x>"] += 1
    html = report(result_of(record))
    assert "<script" not in html
    assert "<img" not in html


def test_a_report_of_nothing_is_a_page_too() -> None:
    record = Record(make(clients=10), 0)
    record.begin("connect", 0)
    page = Page()
    page.feed(report(result_of(record, was_interrupted=True)))
    assert page.open == []
    assert "Nothing to draw" in page.text


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 0.0), (1.0, 0.0)],
        [(0.0, 1.0), (0.0, 1.0)],
        [(0.0, None), (1.0, 5.0), (2.0, None), (3.0, 1e9)],
        [(0.0, 1e-9), (1.0, 2.0)],
    ],
)
def test_charts_of_odd_values_are_drawn_within_their_frame(
    points: list[tuple[float, float | None]], is_log: bool
) -> None:
    chart = Chart("odd", [Line("line", "blue", points, True)], lambda x: f"{x:g}", lambda y: f"{y:g}", is_log=is_log)
    numbers = [float(text) for path in re.findall(r' d="([^"]+)"', chart.svg()) for text in re.findall(r"[\d.]+", path)]
    assert numbers
    assert all(0 <= number <= 440 for number in numbers)


# -- while it goes


def test_elsewhere_than_on_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    Live(stream, is_terminal=False)(recorded())
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "10 of 10 clients" in stream.getvalue()


def test_a_terminal_is_written_over_and_left_clean() -> None:
    stream = io.StringIO()
    live = Live(stream, is_terminal=True)
    record = recorded(tally=Tally(lost=2))
    record.faults[0] = 2
    live(record)
    height = stream.getvalue().count("\n")
    assert "2 FAULTS" in stream.getvalue()
    record.begin("more", 9 * S)
    live(record)
    assert f"\x1b[{height}A\x1b[J" in stream.getvalue()
    live.close()
    assert stream.getvalue().endswith("A\x1b[J")


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.123, "0.12 ms"), (12.34, "12.3 ms"), (123.4, "123 ms"), (1_234.0, "1.23 s"), (12_340.0, "12.3 s")],
)
def test_times_have_three_digits(value: float | None, said: str) -> None:
    assert words.millis(value) == said
