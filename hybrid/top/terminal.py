"""A terminal that is taken over and given back as it was: its other screen, no cursor, keys as they come.

Ctrl-C, Ctrl-Z and Ctrl-\\ stay signals. Whoever is stopped by Ctrl-Z gives the terminal back meanwhile.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from hybrid.top.table import Line

try:
    import termios
    import tty
except ImportError:  # Windows: no keys there but Ctrl-C
    termios = tty = None  # type: ignore[assignment]

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # another screen, no cursor, long lines are not broken
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
"""An arrow or another key that is not one character (ECMA-48, section 5.4)."""
_STYLES: Final = {"bold": "1", "dim": "2", "good": "32", "warn": "33", "bad": "1;31"}


def painted(line: Line, *, has_colour: bool) -> str:
    """A line as text, with the sequences for its styles (ECMA-48, SGR) where there is colour."""
    if not has_colour:
        return "".join(text for _, text in line).rstrip()
    return "".join(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and text else text for style, text in line)


class Terminal:
    """`out` is a terminal; `keys` is the descriptor that keys come from, or None for none."""

    def __init__(self, out: TextIO, keys: int | None, *, has_colour: bool) -> None:
        self._out = out
        self._keys = keys if termios is not None else None
        self._has_colour = has_colour
        self._before: list[Any] | None = None
        self._text = codecs.getincrementaldecoder("utf-8")("replace")

    @contextmanager
    def taken(self, on_key: Callable[[str], None], on_change: Callable[[], None]) -> Iterator[None]:
        """Take the terminal over, inside the event loop, and give it back however this ends.

        `on_key` is called with each character; `on_change` when everything has to be drawn anew.
        """
        loop = asyncio.get_running_loop()
        watched: list[int] = []

        def stop() -> None:
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take()  # here somebody has continued us
            on_change()

        for name, call in (("SIGTSTP", stop), ("SIGWINCH", on_change)):
            with suppress(AttributeError, NotImplementedError):  # Windows has neither
                loop.add_signal_handler(getattr(signal, name), call)
                watched.append(getattr(signal, name))
        try:
            self._take()
            if self._keys is not None:
                loop.add_reader(self._keys, self._read, self._keys, on_key)
            yield
        finally:
            if self._keys is not None:
                loop.remove_reader(self._keys)
            for number in watched:
                loop.remove_signal_handler(number)
            self._give_back()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        with suppress(OSError, ValueError):
            found = os.get_terminal_size(self._out.fileno())
            if found.columns and found.lines:
                return found.columns, found.lines
        return 80, 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines and nothing else."""
        shown = [f"{painted(line, has_colour=self._has_colour)}\x1b[K" for line in lines]
        self._write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")

    def _take(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._write(_ENTER)

    def _give_back(self) -> None:
        with suppress(OSError):  # a terminal that is gone needs nothing any more
            self._write(_LEAVE)
        if self._keys is not None and self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
            self._before = None

    def _read(self, keys: int, on_key: Callable[[str], None]) -> None:
        try:
            data = os.read(keys, 1024)
        except OSError:
            data = b""
        if not data:  # nobody types any more
            asyncio.get_running_loop().remove_reader(keys)
            return
        for character in _SEQUENCE.sub("", self._text.decode(data)):
            on_key(character)

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))
        self._out.flush()
