"""Values of the file, and texts of the environment, as the types of the fields they are for."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, Literal

from hybrid.settings.words import choices, refusal


class Text(str):
    """A value from the environment: text that stands for a value of the type wanted. Remembers the variable."""

    __slots__ = ("variable",)
    variable: str

    def __new__(cls, text: str, variable: str) -> Text:
        """`variable` is its name, for refusals."""
        made = super().__new__(cls, text)
        made.variable = variable
        return made


def table_of(tree: dict[str, Any], key: str, where: str = "") -> dict[str, Any]:
    """The table under `key`, made where there is none. Raises SettingsError for what is no table."""
    value = tree.setdefault(key, {})
    if not isinstance(value, dict):
        raise refusal(f"{where}{key} must be a table, written [{where}{key}].")
    return value


def check_known(table: Mapping[str, Any], kind: type, where: str, without: tuple[str, ...] = ()) -> None:
    """Raises SettingsError for a key that `kind` has no field for, with the nearest that it has."""
    known = [item.name for item in fields(kind) if item.name not in without]
    for key in table:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {where}{near[0]}?" if near else f" Accepted are: {', '.join(known)}."
            raise refusal(f"{where}{key} is not a setting.{hint}")


def convert_all(table: Mapping[str, Any], kind: type, where: str) -> dict[str, Any]:
    """Every value as its field wants it. Raises SettingsError."""
    hints = typing.get_type_hints(kind)
    return {key: convert(f"{where}{key}", value, hints[key]) for key, value in table.items()}


_WANTED: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def convert(key: str, value: Any, hint: Any) -> Any:
    """A value of the file, or the text of a variable, as the type of its field. Raises SettingsError."""
    shown = f"{key} ({value.variable})" if isinstance(value, Text) else key
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else convert(key, value, next(a for a in typing.get_args(hint) if a is not None))
    if origin is Literal:
        if str(value) not in typing.get_args(hint):
            raise refusal(f"{shown} must be {choices(hint)}, not {str(value)!r}.")
        return str(value)
    if origin is tuple:
        items = split_list(value) if isinstance(value, Text) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise refusal(f"{shown} must be a list of texts.")
        return tuple(items)
    converted = _from_text(value, hint) if isinstance(value, Text) else value
    if hint is float and isinstance(converted, int) and not isinstance(converted, bool):
        converted = float(converted)
    if type(converted) is not hint or (hint is float and not math.isfinite(converted)):
        raise refusal(f"{shown} must be {_WANTED[hint]}, not {str(value)[:60]!r}.")
    return converted


def _from_text(text: Text, hint: Any) -> Any:
    """The value that a variable's text stands for, or the text itself where it stands for none."""
    word = text.strip()
    if hint is str:
        return word
    if hint is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(word.lower(), text)
    try:
        return hint(word)
    except ValueError:
        return text


def split_list(text: str) -> list[str]:
    """The items of a list written with commas."""
    return [item.strip() for item in text.split(",") if item.strip()]
