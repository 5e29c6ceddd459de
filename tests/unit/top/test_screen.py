"""What is seen, of snapshots that are made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.top.figures import Figures, compare
from hybrid.top.report import as_json
from hybrid.top.screen import plain, screen
from hybrid.top.snapshot import Channels, Server, Trouble
from hybrid.top.table import Column, Line, cut, table, width_of
from hybrid.top.terminal import painted
from hybrid.top.view import SORTS, View
from hybrid.top.words import lasted, rate, seconds, share, size
from tests.unit.top.told import buckets, channel, node, snapshot, worker

REFUSED = Trouble("refused", "a:1 does not tell the nodes: the token lacks the scope hybrid:nodes")


def figures() -> Figures:
    lag, write = {"lag": buckets(8, 0, 0, 0), "write": buckets(10, 0, 0, 0)}, {"lag": buckets(0, 0, 0, 8)}
    before = snapshot(
        10.0,
        worker("1", deliveries=1_000, limits={"connects_per_s": 5}),
        worker("2"),
        channels=Channels((channel("chat:lobby", 90, 100, at_s=10.0), channel("news", 100, 7, at_s=10.0)), 2),
    )
    now = snapshot(
        12.0,
        worker("1", deliveries=3_000, limits={"connects_per_s": 9}, slow=2, histograms=lag),
        worker("2", deliveries=20_000, histograms=write, is_draining=True),
        channels=Channels((channel("news", 100, 7, at_s=12.0), channel("chat:lobby", 90, 120, at_s=12.0)), 5),
        nodes=(node(), node("zzzzzzzzzzzz", streams=300, draining=True, uptime_s=None)),
    )
    return compare(before, now)


def text(lines: list[Line]) -> list[str]:
    return [painted(line, has_colour=False) for line in lines]


def test_everything_for_a_script() -> None:
    assert (
        "\n".join(text(plain(figures(), View())))
        == """\
clients      246 of 30,000: websocket 200, sse 40, longpoll 6; 220 sessions
published    110/s  answered in p50 -, p99 -
delivered    11,000/s  11 KB/s  written after p50 1 ms, p99 1 ms
slow         2 now, 0/s more; 0 catching up; 0 publications behind, 0 B buffered
loop lag     p99 >16 s
broker       memory
limits hit   connects_per_s 2.0/s (9 in all)
refused      none

WORKER            CLIENTS  DELIVERED/S  PUBLISHED/S  SLOW    LAG   CPU  MEMORY    ROOM  STATE
10.1.2.10:8000/2      123       10,000          100     0  >16 s  100%   80 MB  15,000  draining
10.1.2.10:8000/1      123        1,000           10     2   1 ms   10%   80 MB  15,000  serving

CHANNEL     SUBSCRIBERS  PUBLISHED/S  DELIVERED/S
chat:lobby           90           10          900
news                100            0            0
3 more

NODE          STREAMS  SESSIONS  CHANNELS    ROOM       UP  ADDRESS         VERSION  STATE
zzzzzzzzzzzz      300       110         7  14,880        -  10.1.2.10:8000  0.1.0    draining
Qm8xk2aaaaaa      120       110         7  14,880  1 d 2 h  10.1.2.10:8000  0.1.0    serving"""
    )


def test_a_narrow_terminal_keeps_what_matters() -> None:
    assert text(screen(figures(), View(), 34, 22))[1:] == [
        "clients      246 of 30,000: webso…",
        "published    110/s  answered in p…",
        "delivered    11,000/s  11 KB/s  w…",
        "slow         2 now, 0/s more; 0 c…",
        "loop lag     p99 >16 s",
        "broker       memory",
        "limits hit   connects_per_s 2.0/s…",
        "refused      none",
        "",
        "WORKER        CLIENTS  DELIVERED/S",
        "…2.10:8000/2      123       10,000",
        "…2.10:8000/1      123        1,000",
        "",
        "CHANNEL     SUBSCRIBERS",
        "chat:lobby           90",
        "4 more",
        "",
        "NODE          STREAMS       UP",
        "zzzzzzzzzzzz      300        -",
        "Qm8xk2aaaaaa      120  1 d 2 h",
        "q quit  s sort  r reverse  / filt…",
    ]


@given(st.integers(1, 200), st.integers(1, 60), st.sampled_from(SORTS), st.booleans(), st.none() | st.text(max_size=20))
def test_it_fits_every_terminal(width: int, height: int, sort: str, is_reversed: bool, typed: str | None) -> None:
    lines = screen(figures(), View(sort=sort, is_reversed=is_reversed, typed=typed), width, height, note="\x1b[2J note")
    assert len(lines) <= height
    assert all(sum(width_of(part) for _, part in line) <= width for line in lines)
    assert "\x1b" not in "".join(text(lines))


def test_every_table_has_a_row_before_any_has_two() -> None:
    shown = text(screen(figures(), View(), 100, 10 + 8 + 1))
    assert [line.split()[0] for line in shown if line][-7:-1] == [
        *("WORKER", "10.1.2.10:8000/2"),
        *("CHANNEL", "chat:lobby"),
        *("NODE", "zzzzzzzzzzzz"),
    ]


@pytest.mark.parametrize(
    ("sort", "workers", "channels"),
    [
        *(("deliveries", "21", "cn"), ("publications", "21", "cn"), ("clients", "12", "nc"), ("lag", "21", "cn")),
        *(("cpu", "21", "cn"), ("memory", "12", "cn"), ("name", "12", "cn")),
    ],
)
def test_sorts(sort: str, workers: str, channels: str) -> None:
    def order(view: View) -> tuple[str, str]:
        told = json.loads(as_json(figures(), view))
        return "".join(one["name"][-1] for one in told["workers"]), "".join(one["name"][0] for one in told["channels"])

    assert order(View(sort=sort)) == (workers, channels)
    assert order(View(sort=sort, is_reversed=True)) == (workers[::-1], channels[::-1])


def test_what_was_not_told_is_said() -> None:
    gone = Server("b:1", 12.0, trouble=Trouble("unreachable", "Cannot reach b:1: refused \x1b[31m"))
    shown = text(plain(compare(None, snapshot(12.0, worker(), servers=(gone,), nodes=REFUSED, silent=1)), View()))
    assert "not reached  Cannot reach b:1: refused ?[31m" in shown
    assert f"not told     {REFUSED.sentence}" in shown
    assert "not told     1 workers did not answer in time: their figures are missing" in shown
    assert any(line.startswith("b:1") and line.endswith("unreachable") for line in shown)


def test_no_metrics_at_all_still_shows_the_nodes() -> None:
    gone = Server("b:1", 12.0, trouble=Trouble("absent", "b:1 has no metrics: set `metrics = true` there"))
    shown = text(plain(compare(None, snapshot(12.0, servers=(gone,), nodes=(node(),))), View()))
    assert not any(line.startswith("clients") for line in shown)
    assert any(line.startswith("Qm8xk2aaaaaa") for line in shown)


@pytest.mark.parametrize(("up", "said"), [(1.0, "redis: up"), (0.0, "redis: not reached by 10.1.2.10:8000")])
def test_the_broker(up: float, said: str) -> None:
    one = worker(broker="redis", broker_up={"asking": 1.0, "listening": up}, histograms={"broker": buckets(5, 0, 0, 0)})
    [line] = [line for line in text(plain(compare(None, snapshot(1.0, one)), View())) if line.startswith("broker")]
    assert said in line
    assert "answers p99 1 ms" in line


def test_a_limit_that_is_hit_now_stands_out() -> None:
    line = next(line for line in plain(figures(), View()) if line[0][1].startswith("limits"))
    assert ("warn", "connects_per_s 2.0/s (9 in all)") in line
    many = replace(figures(), limits=figures().limits * 6)
    assert "2 more" in "\n".join(text(plain(many, View())))


def test_json_has_null_for_what_is_not_known_and_no_other_numbers() -> None:
    told = json.loads(as_json(figures(), View()))
    assert told["at"].endswith("Z")
    assert (told["deliveries_per_s"], told["publish_s"]) == (11_000.0, {"p50": None, "p99": None})
    assert told["lag_s"] is None, "above all buckets"
    assert told["limits"] == [{"name": "connects_per_s", "total": 9, "per_s": 2.0}]
    assert told["nodes"][0]["node"] == "zzzzzzzzzzzz"


# -- tables and words


@given(st.text(max_size=30), st.integers(0, 30))
def test_what_is_cut_fits_and_ends_in_an_ellipsis(words: str, width: int) -> None:
    found = cut(words, width)
    assert width_of(found) <= width or found == words
    if found != words and width:
        assert found.endswith("…")


def test_wide_characters_take_two_cells_and_marks_none() -> None:
    assert (width_of("日本"), width_of("e\u0301"), width_of("abc")) == (4, 1, 3)
    assert cut("日本語", 5) == "日本…"


def test_a_table_of_names_that_were_made_to_do_harm() -> None:
    lines = text(table((Column("NAME", is_figure=False), Column("N")), [[("", "a\x1b]0;x\x07\u202eb"), ("", "1")]], 80))
    assert lines == ["NAME       N", "a?]0;x??b  1"]
    assert all(part.isprintable() for line in lines for part in line)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        *((rate(None), "-"), (rate(0.0), "0"), (rate(0.05), "0.05"), (rate(2.25), "2.2"), (rate(12_345.6), "12,346")),
        *((seconds(0.000128), "128 us"), (seconds(0.0041), "4.1 ms"), (seconds(1.05), "1.05 s")),
        *((size(512), "512 B"), (size(1_536), "1.5 KB"), (size(3 << 40), "3.0 TB"), (share(0.5), "50%")),
        *(
            (lasted(5.0), "5 s"),
            (lasted(125.0), "2 min"),
            (lasted(7_260.0), "2 h 1 min"),
            (lasted(90_000.0), "1 d 1 h"),
        ),
    ],
)
def test_words(said: str, words: str) -> None:
    assert said == words
