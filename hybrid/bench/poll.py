"""Readiness of many sockets: epoll where there is one, else poll; and waits shorter than a millisecond."""

from __future__ import annotations

import select
from typing import Final

READ: Final = 1  # POLLIN, and the same for epoll
WRITE: Final = 4
_EVENTS_MAX: Final = 1_024
_FINE_S: Final = 0.005


class Poll:
    """File descriptors and what is waited for."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = None if self._epoll is not None else select.poll()

    def add(self, descriptor: int, events: int) -> None:
        """Begin with a descriptor; once."""
        (self._epoll or self._poll).register(descriptor, events)  # type: ignore[union-attr]

    def change(self, descriptor: int, events: int) -> None:
        """Wait for something else."""
        (self._epoll or self._poll).modify(descriptor, events)  # type: ignore[union-attr]

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor before it is closed."""
        (self._epoll or self._poll).unregister(descriptor)  # type: ignore[union-attr]

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """Descriptors that are ready, with what for; empty when the time is up."""
        if self._epoll is None:
            assert self._poll is not None
            return self._poll.poll(max(0.0, seconds) * 1_000)
        if 0 < seconds < _FINE_S:
            # epoll waits whole milliseconds and rounds up: a publish that is due in 0.2 ms would be late by 0.8.
            if not select.select([self._epoll.fileno()], [], [], seconds)[0]:
                return []
            seconds = 0
        return self._epoll.poll(max(0.0, seconds), _EVENTS_MAX)

    def close(self) -> None:
        """Release it."""
        if self._epoll is not None:
            self._epoll.close()
