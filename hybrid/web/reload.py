"""One rolling reload: the settings are tried, then one place after the other gets a new worker.

A new worker accepts before the old one in its place is told to leave, and the next place is begun when the old one has
ended: at no time does a place refuse connections, and there is never more than one worker too many. A new worker that
does not become ready stops the reload, and what serves goes on serving.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hybrid.web.place import Place
from hybrid.web.process import WorkerProcess, spawn

if TYPE_CHECKING:
    from hybrid.web.supervisor import Supervisor

_log = logging.getLogger(__name__)


class Reload:
    """See the module's text. `step` is called at every turn until there is an `outcome`."""

    def __init__(self, supervisor: Supervisor, check_command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.outcome = ""
        """How it went, in one sentence; empty while it goes on."""
        self._supervisor = supervisor
        self._waiting = list(supervisor.places)
        self._place: Place | None = None
        self._old: WorkerProcess | None = None
        self._new: WorkerProcess | None = None
        self._begun_s = time.monotonic()
        self._check: subprocess.Popen[bytes] | None = None
        _log.info("reloading: the settings are tried first")
        try:
            # In a process of its own: new code may know settings that this process does not.
            self._check = spawn(check_command, environment, stdout=subprocess.DEVNULL)
        except OSError as error:
            self._end(f"Reload refused, nothing was changed: {error.strerror or error}", is_failure=True)

    def cancel(self) -> None:
        """Stop where it is."""
        if self._check is not None:
            self._check.kill()
            self._check.wait()
            self._check = None

    def step(self) -> None:
        """Do what can be done now."""
        if self._check is not None:
            self._see_check()
        while self._check is None and not self.outcome and self._go_on():
            pass

    def _see_check(self) -> None:
        assert self._check is not None
        code = self._check.poll()
        patience_s = self._supervisor.limits.worker_start_s
        if code is None and time.monotonic() - self._begun_s > patience_s:
            self.cancel()
            self._end(f"Reload refused, nothing was changed: no word after {patience_s:g} s", is_failure=True)
        elif code is not None:
            self._check = None
            if code:
                self._end("Reload refused, nothing was changed: the settings are not good", is_failure=True)
            else:
                self._supervisor.reread()

    def _go_on(self) -> bool:
        """One step; False when there is nothing to do but to wait."""
        if self._place is None:
            if not self._waiting:
                took_s = time.monotonic() - self._begun_s
                self._end(f"Reloaded {len(self._supervisor.places)} workers in {took_s:.1f} s")
                return False
            self._begin(self._waiting.pop(0))
            return True
        place, new = self._place, self._new
        if new is None or (new.code is not None and place.worker is not new):
            self._stop(place)
            return False
        if place.successor is new or (self._old is not None and self._old.code is None):
            return False
        self._place = None
        return True

    def _begin(self, place: Place) -> None:
        self._place, self._old = place, place.worker
        place.hasten()
        self._new = self._supervisor.start(place, as_successor=True)

    def _stop(self, place: Place) -> None:
        if place.worker is None and place.start_at_s is None:
            place.start_at_s = time.monotonic()  # the old one has ended meanwhile
        numbers = [other.number for other in (place, *self._waiting)]
        self._end(
            f"Reload stopped at worker {place.number}, whose successor failed; "
            f"as before: {', '.join(map(str, numbers))}",
            is_failure=True,
        )

    def _end(self, outcome: str, *, is_failure: bool = False) -> None:
        self.outcome = outcome
        _log.log(logging.ERROR if is_failure else logging.INFO, "%s", outcome[0].lower() + outcome[1:])
