"""How somebody wants to see it, and what a key does to that. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import Final

SORTS: Final = ("deliveries", "publications", "clients", "lag", "cpu", "memory", "name")
INTERVALS_S: Final = (2.0, 5.0, 10.0, 30.0, 60.0)
"""A server keeps a reading for a second, for all who ask: over less than twice that there are no rates."""
PREFIX_MAX: Final = 255
"""Of what channels are filtered by, in bytes: no name is longer."""
ENTER: Final = ("\r", "\n")
ESCAPE: Final = "\x1b"
BACKSPACE: Final = ("\x7f", "\b")


@dataclass(frozen=True, slots=True)
class View:
    """`sort` is one of `SORTS`; `prefix` is what the names of channels begin with that are shown."""

    interval_s: float = INTERVALS_S[0]
    sort: str = "deliveries"
    is_reversed: bool = False
    prefix: str = ""
    is_paused: bool = False
    typed: str | None = None
    """What is being typed for `prefix`; None when nothing is."""
    is_over: bool = False


def press(view: View, key: str) -> View:
    """The view after a key: one character. What means nothing changes nothing."""
    if view.typed is not None:
        return _type(view, view.typed, key)
    match key:
        case "q" | "Q":
            return replace(view, is_over=True)
        case "s":
            return replace(view, sort=_next(view.sort))
        case "r":
            return replace(view, is_reversed=not view.is_reversed)
        case "p":
            return replace(view, is_paused=not view.is_paused)
        case "/":
            return replace(view, typed=view.prefix)
        case "+" | "=":
            return replace(
                view, interval_s=min((s for s in INTERVALS_S if s > view.interval_s), default=view.interval_s)
            )
        case "-":
            return replace(
                view, interval_s=max((s for s in INTERVALS_S if s < view.interval_s), default=view.interval_s)
            )
    return view


def _type(view: View, typed: str, key: str) -> View:
    if key in ENTER:
        return replace(view, prefix=typed, typed=None)
    if key == ESCAPE:
        return replace(view, typed=None)
    if key in BACKSPACE:
        return replace(view, typed=typed[:-1])
    # What a server would refuse cannot be typed: names are in NFC, without control characters and stars.
    longer = unicodedata.normalize("NFC", typed + key)
    if key.isprintable() and key != "*" and len(longer.encode("utf-8", "replace")) <= PREFIX_MAX:
        return replace(view, typed=longer)
    return view


def _next(sort: str) -> str:
    return SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
