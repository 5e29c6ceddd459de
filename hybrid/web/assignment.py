"""What a supervisor and its workers agree on: what a worker is given, and the words it says back.

Apart from both, because neither may load what the other needs.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from typing import Final

READY: Final = b"r"
BEAT: Final = b"."
LEAVING: Final = b"l"
BEAT_INTERVAL_S: Final = 1.0
HELD_BACK: Final = (signal.SIGINT, signal.SIGHUP) if os.name == "posix" else ()
"""Signals that a terminal sends to all processes, and that mean the supervisor: it starts workers with them blocked."""
STACKS_SIGNAL: Final = signal.SIGUSR1 if os.name == "posix" else None
"""Asks a worker to write the stacks of its threads to stderr, ahead of being killed for its silence."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a supervisor gives to a worker: its number from 1, two descriptors that it inherits, and a directory.

    `directory` is where the workers find each other; empty where they do not.
    """

    number: int
    listener: int
    lifeline: int
    directory: str = ""

    def __str__(self) -> str:
        return f"{self.number}:{self.listener}:{self.lifeline}:{self.directory}"

    @classmethod
    def parse(cls, text: str) -> Assignment:
        """The reverse of `str`. Raises ValueError."""
        number, listener, lifeline, directory = text.split(":", 3)
        return cls(int(number), int(listener), int(lifeline), directory)

    def take_listener(self) -> socket.socket:
        """The listening socket. Raises OSError where there is none."""
        return _take(self.listener)

    def take_lifeline(self) -> socket.socket:
        """The socket to the supervisor. Raises OSError where there is none."""
        return _take(self.lifeline)


def _take(descriptor: int) -> socket.socket:
    taken = socket.socket(fileno=descriptor)
    taken.setblocking(False)
    taken.set_inheritable(False)
    return taken
