"""Figures and strangers' texts as they may stand in a sentence for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LONGEST: Final = 120
_TELLING: Final = ("via", "x-cache", "x-squid-error", "cf-ray")


def visible(text: str) -> str:
    """Without control characters, which would speak to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST]


def said_by(error: Exception) -> str:
    """The first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return visible(lines[0]) if lines else type(error).__name__


def duration(seconds: float) -> str:
    """As people read it: `12 ms`, `1.5 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def milliseconds(seconds: float) -> float:
    """For figures."""
    return round(seconds * 1000, 1)


def passed(headers: Mapping[str, str]) -> list[str]:
    """What an answer tells of its way here."""
    facts = [f"{name.capitalize()}: {visible(value)}" for name in _TELLING if (value := headers.get(name))]
    coding = headers.get("content-encoding", "identity")
    if coding != "identity":
        facts.append(f"recompressed on the way ({visible(coding)})")
    return facts
