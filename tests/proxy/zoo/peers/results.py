"""What was measured so far, kept in `.zoo/peers.json`: a run of some changes the rows of those only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.proxy.zoo.peers.setups import ROOT

KEPT: Final = ROOT / ".zoo" / "peers.json"

Results: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""By animal and peer: what `course.run` returns, with `at`, the UTC time of its end."""


def load(path: Path = KEPT) -> Results:
    """What is kept; nothing where nothing was measured."""
    try:
        results: Results = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return results


def store(results: Results, path: Path = KEPT) -> None:
    """Replace what is kept, at once or not at all."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1))
    new.replace(path)
