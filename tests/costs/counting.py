"""Counting what a piece of code does, in numbers that are the same on every machine.

Calls are counted by the interpreter's own profiler (`sys.setprofile`), so nothing has to be put into the code. The
garbage collector rests meanwhile: what it calls, and when, is not the code's.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

_INLINED: Final = {"<listcomp>", "<dictcomp>", "<setcomp>"}
"""Calls of their own on Python 3.11, part of the function around them since 3.12 (PEP 709): never counted."""


class Calls:
    """How often each function was called: Python's by module and qualified name, C's by qualified name."""

    def __init__(self) -> None:
        self.python: Counter[str] = Counter()
        self.c: Counter[str] = Counter()

    @property
    def ours(self) -> Counter[str]:
        """The product's own functions, without its name in front."""
        own = "hybrid."
        return Counter({name[len(own) :]: count for name, count in self.python.items() if name.startswith(own)})

    def of(self, name: str) -> int:
        """How often a function was called whose name ends like this."""
        return sum(count for full, count in (self.python + self.c).items() if f".{full}".endswith(f".{name}"))

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """What the profiler calls."""
        if event == "call":
            code = frame.f_code
            if code.co_name not in _INLINED and code.co_filename != __file__:
                self.python[f"{frame.f_globals.get('__name__')}.{code.co_qualname}"] += 1
        elif event == "c_call" and argument is not sys.setprofile:
            self.c[argument.__qualname__] += 1


class counted:
    """`with counted() as calls:` counts the calls made in this thread, those of other tasks too if it awaits."""

    def __enter__(self) -> Calls:
        self._had_collector = gc.isenabled()
        gc.collect()
        gc.disable()
        self._profiler = sys.getprofile()
        calls = Calls()
        sys.setprofile(calls.note)
        return calls

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._profiler)
        if self._had_collector:
            gc.enable()


class stepped:
    """`with stepped() as steps:` counts the lines of Python that run: also those of loops in which nothing is called.

    How many lines something takes depends on the version of Python; that it takes as many as something else does not.
    """

    def __init__(self) -> None:
        self.lines = 0

    def __enter__(self) -> stepped:
        self._tracer = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._tracer)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return None if frame.f_code.co_filename == __file__ else self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.lines += event == "line"
        return self._step


def each(more: Counter[str], fewer: Counter[str], count: int) -> dict[str, float]:
    """What each of `count` more of something added to the counts; whole numbers, or it is not the same for each."""
    added = Counter(more)
    added.subtract(fewer)
    return {name: number / count for name, number in sorted(added.items()) if number}


@contextmanager
def traced() -> Iterator[None]:
    """Memory is traced, from nothing on; the collector rests."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def system_writes() -> tuple[int, int]:
    """Calls of write(2) and writev(2) by this process so far, and the bytes in them (proc_pid_io(5), Linux)."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["syscw"]), int(lines["wchar"])


def census() -> tuple[Counter[str], Counter[str]]:
    """All objects that the collector knows, by type: how many, and their own bytes."""
    gc.collect()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for thing in gc.get_objects():
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        counts[name] += 1
        sizes[name] += sys.getsizeof(thing)
    return counts, sizes
