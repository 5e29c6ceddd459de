"""What the comparison with the peers says of a run: ratios within a round, medians, targets, and what was not whole."""

from __future__ import annotations

import pytest

from tests.bench.peers import install, report
from tests.bench.peers.__main__ import KINDS, chosen, options_of
from tests.bench.peers.base import Peer
from tests.bench.peers.measures import FULL, MEMORY, QUICK, Result

KEY = "500, one at a time"


def rounds(*pairs: tuple[float, float | None], key: str = KEY) -> list[report.Round]:
    """A round for each pair of hybrid's figure and Nchan's; without one, Nchan's result lacks it."""
    return [
        {
            ("hybrid", "sse"): Result({key: ours}),
            ("Nchan", "sse"): Result({} if theirs is None else {key: theirs}),
        }
        for ours, theirs in pairs
    ]


def test_ratios_are_taken_within_a_round() -> None:
    cell = report.compared(rounds((100, 200), (300, 100), (100, 100)), "sse", KEY)["Nchan"]
    assert cell.values == [200, 100, 100]
    assert cell.ratios == [0.5, 3.0, 1.0]
    assert report.spread(cell.ratios, "{:.2f}x") == "1.00x (0.50x-3.00x)"


def test_a_round_in_which_a_peer_failed_counts_for_neither() -> None:
    cell = report.compared(rounds((100, None), (300, 100)), "sse", KEY)["Nchan"]
    assert cell.ratios == [3.0]


def test_both_streams_of_ours_are_compared_with_their_one() -> None:
    done = {**rounds((100, 200))[0], ("hybrid", "plain sse"): Result({KEY: 400})}
    assert report.compared([done], "plain sse", KEY)["Nchan"].ratios == [2.0]
    assert report.compared([done], "plain sse", KEY)["hybrid"].values == [400]


@pytest.mark.parametrize(("ours", "told"), [(90, ">= 0.9x: met"), (89, ">= 0.9x: NOT MET")])
def test_a_target_is_judged_by_the_median(ours: float, told: str) -> None:
    text = "\n".join(report.terminal(rounds((ours, 100)), QUICK))
    assert told in text
    assert told in "\n".join(report.markdown(rounds((ours, 100)), QUICK))


def test_a_measure_without_a_target_has_no_verdict() -> None:
    text = "\n".join(report.terminal(rounds((8, 4), key="500, awaited"), QUICK))
    assert "hybrid/it 2.00x" in text
    assert "met" not in text.lower()


@pytest.mark.parametrize(
    ("key", "figure", "told"),
    [
        (MEMORY, 3.0, "<= 3: met"),
        (MEMORY, 3.1, "<= 3: NOT MET"),
        ("connect", 500.0, "<= 500: met"),
        ("1000, 50 a second, p99", 9.9, "<= 10: met"),
        ("1000, 50 a second, p99", 10.1, "<= 10: NOT MET"),
    ],
)
def test_what_ours_should_at_most_be_is_judged_too(key: str, figure: float, told: str) -> None:
    for form in (report.terminal, report.markdown):
        assert "\n".join(form(rounds((figure, 1.0), key=key), FULL)).count(told) == 1


@pytest.mark.parametrize("key", ["1000, 50 a second, p99", "1000, 64 in flight"])
@pytest.mark.parametrize("fault", ["1000, 50 a second", "1000"])
def test_a_round_that_lacks_a_figure_for_what_was_wrong_is_told(key: str, fault: str) -> None:
    bad = Result(faults={fault: ["a client lost 1 of 4"], "1000, 64 in flight": ["not measured"]})
    good = Result({key: 10.0})
    done: list[report.Round] = [{("hybrid", "sse"): good, ("Mercure", "sse"): theirs} for theirs in (good, bad)]
    assert "NOT WHOLE in 1 of 2" in "\n".join(report.markdown(done, FULL))


def test_what_was_not_whole_is_kept_apart_and_told() -> None:
    bad = Result(apart={"500, 64 in flight": 12_345.0}, faults={"500, 64 in flight": ["a client lost 1 of 4"]})
    done: report.Round = {("hybrid", "sse"): Result({"500, 64 in flight": 10.0}), ("Mercure", "sse"): bad}
    told = "\n".join(report.not_whole([done, done]))
    assert "NOT WHOLE: Mercure, sse, 500, 64 in flight: a client lost 1 of 4 (in 2 rounds)" in told
    assert "kept apart: Mercure, sse, 500, 64 in flight: 12,345.0" in told
    for form in (report.terminal, report.markdown):
        text = "\n".join(form([done], QUICK))
        assert "12,345" not in text
        assert "NOT WHOLE in 1 of 1" in text


@pytest.mark.parametrize(("share", "is_told"), [(0.69, True), (0.7, False)])
def test_a_core_that_was_not_kept_busy_is_told(share: float, is_told: bool) -> None:
    told = list(report.idle(rounds((1.0, share), key="500, 64 in flight, core used"), QUICK))
    assert [("Nchan sse 0.69" in line, "hybrid" in line) for line in told] == [(True, False)] * is_told


def test_hybrid_is_always_among_the_chosen() -> None:
    assert [kind.name for kind in chosen("Nchan; Mercure")] == ["hybrid", "Nchan", "Mercure"]
    assert len(chosen("")) > 5
    with pytest.raises(SystemExit, match="Ngchan is not known; there are hybrid;"):
        chosen("Ngchan")


@pytest.mark.parametrize(
    ("option", "lowest", "highest", "beyond"),
    [("--rounds", "1", "100", ("0", "101", "-1")), ("--seconds", "0.1", "60", ("0", "0.09", "60.1", "nan"))],
)
def test_options_are_bounded(
    option: str, lowest: str, highest: str, beyond: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (lowest, highest):
        options_of([option, number])
    for number in beyond:
        with pytest.raises(SystemExit):
            options_of([option, number])
        assert f"{option} is from {lowest} to {highest}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_documentation_says_how_each_peer_is_set_up(kind: type[Peer]) -> None:
    page = " ".join((install.ROOT / "docs" / "performance.md").read_text().split())
    assert f"**{kind.name}**: {kind.says}." in page
    assert [source for source in kind.sources if source.startswith("https://") and source not in page] == []
