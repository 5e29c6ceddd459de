"""argparse, bent to two rules: help keeps its line breaks, and a mistake is one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps descriptions as they are written, with room for the longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def __init__(self, **options: Any) -> None:
        # Not abbreviated: `--token SECRET` would be taken for `--token-file SECRET`, and the error would print it.
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def number(least: int, most: int, what: str) -> Callable[[str], int]:
    """The type of an option that is a whole number within bounds."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{what} is a whole number from {least} to {most}, not {text!r}")
        return value

    return convert


def decimal(least: float, most: float, what: str) -> Callable[[str], float]:
    """The type of an option that is a number within bounds."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{what} is a number from {least:g} to {most:g}, not {text!r}")
        return value

    return convert
