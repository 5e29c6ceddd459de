"""What the page says of `hybrid top` is what it does: its options, its keys, its lines, its scopes and its bounds."""

from __future__ import annotations

import argparse
import re

from hybrid import cli
from hybrid.cli import top
from hybrid.top import ask
from hybrid.top.figures import Figures, compare
from hybrid.top.screen import LAG_BAD_S, plain
from hybrid.top.snapshot import Server, Trouble
from hybrid.top.table import Line
from hybrid.top.terminal import painted
from hybrid.top.view import INTERVALS_S, SORTS, View, press
from tests.support.nodes import ROOT
from tests.unit.top.told import channel, node, snapshot, worker

PAGE = (ROOT / "docs" / "operating.md").read_text().partition("## In a terminal\n")[2].partition("\n## ")[0]


def options() -> set[str]:
    parsers = next(a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name for action in parsers.choices["top"]._actions for name in action.option_strings} - {"-h", "--help"}


def test_every_option_is_explained_and_no_other() -> None:
    assert set(re.findall(r"--[a-z][a-z-]*", PAGE)) == options()


def test_every_key_is_explained_and_no_other() -> None:
    rows = re.findall(r"^\| (`.+?) \| ", PAGE.partition("| key |")[2], re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`(.)`", row)}
    does = {chr(code) for code in range(33, 127) if press(View(10.0), chr(code)) != View(10.0)}
    assert told | {"=", "Q"} == does, "the two are + and q with the other hand of Shift"
    assert f"by {', '.join(SORTS)};" in PAGE


def titles(lines: list[Line]) -> set[str]:
    return {painted(line[:1], has_colour=False) for line in lines if line and line[0][0] == "dim"}


def test_every_line_is_explained_and_no_other() -> None:
    gone = Server("b:1", 2.0, trouble=Trouble("unreachable", "no"))
    figures: Figures = compare(None, snapshot(1.0, worker(), servers=(gone,), nodes=Trouble("refused", "no")))
    shown = {name for name in titles(plain(figures, View())) if not name.startswith("WORKER")}
    table = PAGE.partition("| line |")[2].partition("\n\n")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}
    assert told == shown


def test_the_tables_of_the_example_are_those_of_the_screen() -> None:
    from hybrid.top.snapshot import Channels

    full = snapshot(1.0, worker("1"), nodes=(node(),), channels=Channels((channel("a", 1),), 1))
    shown = ["".join(text for _, text in line).split() for line in plain(compare(None, full), View())]
    example = [line.split() for line in PAGE.splitlines()]
    for title in ("WORKER", "CHANNEL", "NODE"):
        assert next(line for line in shown if line[:1] == [title]) in example


def test_the_scopes_and_bounds_are_those_of_the_code() -> None:
    assert set(re.findall(r"`(hybrid:[a-z:*]+)`", PAGE)) == set(top._SCOPE.split())
    for said in (
        f"the first {ask.PAGE * ask.PAGES_MAX:,} channels",
        f"every {INTERVALS_S[0]:g} s unless",
        f"Red above {LAG_BAD_S:g} s",
        {10: "the ten with the most"}[top._CHANNELS],
    ):
        assert said in PAGE
