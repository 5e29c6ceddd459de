"""The processes of the bench: one server, and the crowds that are its load. Each obeys lines of JSON and answers so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import psutil


class Failed(Exception):
    """The server or a crowd did not do what was asked of it; the text says what."""


class Child:
    """A Python module that runs as a process; it ends with its input."""

    def __init__(self, module: str, order: dict[str, Any]) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us
        )
        self.tell(order)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: dict[str, Any]) -> None:
        """Give an order; `hear` waits for what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the order before. Raises Failed when there is none, or it says what went wrong."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": f"{self._name} ended"}
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer


class Served(Child):
    """The server."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__("tests.bench.shapes.server", order)
        self.port = int(self.hear()["port"])

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, of the whole process so far."""
        if sys.platform == "linux":
            return time.clock_gettime((~self.pid << 3) | 2)  # to the nanosecond; clock_getcpuclockid(3)
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def stats(self) -> dict[str, Any]:
        """The hub's counts, and `rss`, after the garbage has been collected."""
        self.tell({"do": "stats"})
        return self.hear() | {"rss": psutil.Process(self.pid).memory_info().rss}

    def quiet(self, seconds: float = 0.2, share: float = 0.03, at_most_s: float = 20.0) -> None:
        """Return once it uses less than that share of a core, so that nothing of before is counted later."""
        end_s = time.monotonic() + at_most_s
        while time.monotonic() < end_s:
            before_s = self.cpu_s()
            time.sleep(seconds)
            if self.cpu_s() - before_s < share * seconds:
                return


class Crowds:
    """The load: clients in several processes, because of the descriptors that one may have."""

    def __init__(self, port: int, host: str, count: int, core: int | None) -> None:
        self._stack = ExitStack()
        self._crowds = [
            self._stack.enter_context(
                Child("tests.bench.shapes.crowd", {"port": port, "host": host, "number": number, "core": core})
            )
            for number in range(count)
        ]

    def __enter__(self) -> Crowds:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def all(self, **order: Any) -> list[dict[str, Any]]:
        """The same order for each."""
        return self.each([order] * len(self._crowds))

    def each(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """An order of its own for each; they carry them out at once."""
        self.tell(orders)
        return self.hear()

    def tell(self, orders: Sequence[dict[str, Any]]) -> None:
        """Begin what `hear` waits for."""
        for crowd, order in zip(self._crowds, orders, strict=True):
            crowd.tell(order)

    def hear(self) -> list[dict[str, Any]]:
        """What each answers."""
        return [crowd.hear() for crowd in self._crowds]

    def open(
        self, group: str, kind: str, tokens: Sequence[str], channels: Sequence[Sequence[str]], **options: Any
    ) -> None:
        """A client for each token, on its channels, in equal shares for each process. Raises Failed."""
        count = len(self._crowds)
        self.each(
            [
                {
                    "do": "open",
                    "group": group,
                    "kind": kind,
                    "tokens": tokens[place::count],
                    "channels": channels[place::count],
                    **options,
                }
                for place in range(count)
            ]
        )
