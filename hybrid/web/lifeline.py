"""A worker's side of its supervision: which place it has, and the socket over which both sides see each other live.

The worker says that it accepts, then once a second that its event loop turns, and that it leaves. The supervisor says
nothing: what the worker waits for is the end of the socket, which it sees however the supervisor dies.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from hybrid.web.assignment import BEAT, BEAT_INTERVAL_S, HELD_BACK, LEAVING, READY, STACKS_SIGNAL, Assignment


class Lifeline:
    """See the module's text. To be made in the main thread, before the event loop."""

    def __init__(self, assignment: Assignment) -> None:
        """Raises OSError where the descriptor is none."""
        self._socket = assignment.take_lifeline()
        self._timer: asyncio.TimerHandle | None = None
        for number in HELD_BACK:
            signal.signal(number, signal.SIG_IGN)  # what came while they were blocked is dropped
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        if STACKS_SIGNAL is not None:
            faulthandler.register(STACKS_SIGNAL, file=sys.__stderr__ or 2, all_threads=True)

    def watch(self, end: Callable[[], None]) -> None:
        """Call `end` when the supervisor is gone or sends SIGTERM, again at each. Inside the event loop."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            try:
                if self._socket.recv(64):
                    return
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # reset: the supervisor died before it had read all that we said
            loop.remove_reader(self._socket)
            end()

        def told() -> None:
            # Said first: until it is, the supervisor takes an end that it has not asked for to be a failure.
            self._say(LEAVING)
            end()

        loop.add_reader(self._socket, readable)
        loop.add_signal_handler(signal.SIGTERM, told)

    def ready(self) -> None:
        """Connections are accepted; from here on the loop shows that it turns. Inside the event loop."""
        self._say(READY)
        self._beat()

    def close(self) -> None:
        """Inside the event loop, at the end of it."""
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _beat(self) -> None:
        self._say(BEAT)
        self._timer = asyncio.get_running_loop().call_later(BEAT_INTERVAL_S, self._beat)

    def _say(self, word: bytes) -> None:
        with suppress(OSError):  # full: it is not read at the moment; broken: `watch` sees the same
            self._socket.send(word)
