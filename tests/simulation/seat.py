"""A channel at a client: where its application is, and what may be given to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybrid.model import Position


@dataclass
class Seat:
    """`reader` names this stay for the checker; `position` is None until the first answer.

    `held`: what came ahead of the answer to a subscribe, which takes another way than the stream. `drops_until`: up to
    there, what was on its way from a former stay may still arrive.
    """

    reader: str
    position: Position | None = None
    held: list[dict[str, Any]] | None = None
    drops_until: int = 0


def wire(position: Position) -> dict[str, Any]:
    """As JSON."""
    if not position.offset:
        return {"offset": 0}
    return {"offset": position.offset, "epoch": position.epoch, "tag": position.tag}


def read(told: dict[str, Any]) -> Position:
    """From JSON; of a publication, too."""
    return Position(told["offset"], told.get("epoch", ""), told.get("tag", ""))
