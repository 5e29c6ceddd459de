"""What was measured so far, kept in `.zoo/peers.json`: a run of some changes the rows of those only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.proxy.zoo import results
from tests.proxy.zoo.results import Results as Results

KEPT: Final = results.KEPT.with_name("peers.json")
"""By animal and peer: what `course.run` returns, with `at`, the UTC time of its end."""


def load(path: Path = KEPT) -> Results:
    """What is kept; nothing where nothing was measured."""
    return results.load(path)


def store(measured: Results, path: Path = KEPT) -> None:
    """Replace what is kept, at once or not at all."""
    results.store(measured, path)
