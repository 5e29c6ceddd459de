"""Figures in few cells. Pure."""

from __future__ import annotations

import math

NOTHING = "-"
"""For what is not known."""


def rate(value: float | None) -> str:
    """A second: whole above ten, with a digit below."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}" if value < 0.1 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """A time, in the unit that fits."""
    if value is None:
        return NOTHING
    if math.isinf(value):
        return ">16 s"
    if value < 1e-3:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return NOTHING
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TB"


def share(value: float | None) -> str:
    """Of a core."""
    return NOTHING if value is None else f"{value:.0%}"


def lasted(value: float | None) -> str:
    """How long something has been running."""
    if value is None:
        return NOTHING
    whole = int(value)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"
