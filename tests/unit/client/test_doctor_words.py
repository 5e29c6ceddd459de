"""What `hybrid doctor` concludes, by the cases that its page is held to as well."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid.client.doctor.finding import Finding
from hybrid.client.doctor.rhythm import Beat, judge
from hybrid.client.doctor.verdict import conclude
from hybrid.client.doctor.words import duration, passed, visible
from tests.support.vectors import vectors


@pytest.mark.parametrize("case", vectors("rhythms"))
def test_rhythms(case: dict[str, Any]) -> None:
    rhythm = judge([Beat(*times) for times in case["beats"]], gap_s=case["gap_s"], held_s=case["held_s"])
    assert (rhythm.kind, rhythm.count) == (case["kind"], case["count"])
    assert rhythm.lag_s == pytest.approx(case["lag_s"])


@pytest.mark.parametrize("case", vectors("verdicts"))
def test_verdicts(case: dict[str, Any]) -> None:
    findings = [
        Finding(told["name"], told["works"], tuple(told["facts"]), tuple(told.get("flaws", ())))
        for told in case["findings"]
    ]
    verdict = conclude(findings)
    assert (verdict.will_use, verdict.sentence) == (case["will_use"], case["sentence"])


def test_what_strangers_write_is_shown_harmless_and_short() -> None:
    assert visible("a\x1b]0;x\x07\n") == "a?]0;x??"
    assert len(visible("x" * 1_000)) == 120


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.0004, 0.0126, 0.9994, 1.0, 61.26)] == [
        *("0 ms", "13 ms", "999 ms", "1.0 s", "61.3 s")
    ]


def test_what_answers_tell_of_their_way() -> None:
    headers = {"via": "1.1 office (squid/5.7)", "content-encoding": "gzip", "server": "x"}
    assert passed(headers) == ["Via: 1.1 office (squid/5.7)", "recompressed on the way (gzip)"]
    assert passed({"content-encoding": "identity"}) == []
