"""Figures as JSON, for programs. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from hybrid.top.figures import Figures
from hybrid.top.screen import CHANNEL_KEYS, NODE_KEYS, WORKER_KEYS, ordered
from hybrid.top.view import View

_DIGITS: Final = 6


def as_json(figures: Figures, view: View) -> str:
    """One line: the names of `Figures`, with `at` as RFC 3339; what is not known is null. Tables are in order."""
    told = {item: getattr(figures, item) for item in Figures.__dataclass_fields__}
    told["workers"] = ordered(figures.workers, view, WORKER_KEYS)
    told["channels"] = ordered(figures.channels, view, CHANNEL_KEYS)
    told["nodes"] = ordered(figures.nodes, view, NODE_KEYS)
    at = datetime.fromtimestamp(told.pop("wall_s"), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for name in ("write_s", "publish_s"):
        told[name] = dict(zip(("p50", "p99"), told[name], strict=True))
    return json.dumps({"at": at, **_built(told)}, ensure_ascii=False, allow_nan=False)


def _built(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _built(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_built(item) for item in value]
    if isinstance(value, msgspec.Struct):
        return _built(msgspec.to_builtins(value))
    return _built(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else value
