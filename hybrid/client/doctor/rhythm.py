"""What a network does to events that follow each other, by when each was asked for and when it came. Pure.

The page judges the same way, `static/doctor/rhythm.js`; `tests/vectors/rhythms.json` keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, Literal

Kind = Literal["even", "late", "lumps", "behind", "stopped", "mute"]

_TOGETHER: Final = 0.25
"""What comes within this share of a gap came together."""
_BELATED: Final = 0.75
"""Of a gap: so much more than the quickest is no jitter."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One event: when it was asked for, and when it came, if it did. In seconds of one clock."""

    sent_s: float
    came_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rhythm:
    """`lag_s`: how late the usual one came, or, in lumps, the latest. `count`: came together, or came at all."""

    kind: Kind
    lag_s: float = 0.0
    count: int = 0


def judge(beats: Sequence[Beat], *, gap_s: float, held_s: float) -> Rhythm:
    """Say what happened to `beats`, asked for `gap_s` apart; `held_s` and more is late. At least two are needed."""
    came = [(beat.sent_s, beat.came_s) for beat in beats if beat.came_s is not None]
    if not came:
        return Rhythm("mute")
    lags = [came_s - sent_s for sent_s, came_s in came]
    if len(came) < len(beats):
        waited = all(earlier.came_s is None or earlier.came_s >= later.sent_s for earlier, later in pairwise(beats))
        is_last = beats[-1].came_s is not None
        return Rhythm("behind" if waited and not is_last else "stopped", median(lags), len(came))
    sizes = [1]
    for (_, earlier_s), (_, later_s) in pairwise(came):
        if later_s - earlier_s < gap_s * _TOGETHER:
            sizes[-1] += 1
        else:
            sizes.append(1)
    if len(sizes) <= len(came) / 2 and max(lags) - min(lags) >= gap_s * _BELATED:
        return Rhythm("lumps", max(lags), max(sizes))
    usual_s = median(lags)
    return Rhythm("late" if usual_s >= held_s else "even", usual_s, len(came))
