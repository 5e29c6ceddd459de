"""What was measured so far, kept in `.zoo/results.json`: a run of some animals changes the rows of those only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).parents[3]
KEPT: Final = ROOT / ".zoo" / "results.json"

Results: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""By animal and client: what `run.run` returns, with `at`, the UTC time of its end."""


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
