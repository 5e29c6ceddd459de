"""Reads `tests/vectors/*.json`; their format is in the README beside them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import ProtocolError

_FOLDER = Path(__file__).parent.parent / "vectors"


def vectors(name: str) -> list[Any]:
    """The cases of one file as parameters for `pytest.mark.parametrize("case", ...)`, named as in the file."""
    cases = json.loads((_FOLDER / f"{name}.json").read_text())
    return [pytest.param(case, id=case["name"]) for case in cases]


def wire_of(case: dict[str, Any]) -> bytes:
    """The bytes that a case stands for."""
    if "base64" in case:
        return base64.b64decode(case["base64"])
    text: str = case["text"]
    return text.encode()


def outcome(case: dict[str, Any]) -> Any:
    """What `attempt` must return for a case: its value, or the name of its error."""
    return {"error": case["error"]} if "error" in case else {"value": case["value"]}


def attempt(call: Any, *arguments: Any) -> Any:
    try:
        return {"value": call(*arguments)}
    except ProtocolError as error:
        return {"error": error.row.name}
