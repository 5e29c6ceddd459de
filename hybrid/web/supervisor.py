"""Keeps the workers of one port running; serves nothing itself, and loads nothing that serves.

Every worker is a fresh interpreter, so that it runs the code and reads the settings of the time it is started. It gets
its place's listening socket, which stays open here, and a socket over which each side sees that the other lives (see
`lifeline`). What happens when:

- a worker ends that was not told to: another takes its place at once, and after a growing pause when one after the
  other fails
- it shows no turn of its event loop: it is killed, and that is an end as any other
- SIGHUP: the settings are tried first, then one place after the other gets a new worker (`reload`)
- SIGTERM, SIGINT: all are told to leave, and what is left behind the grace is killed; the second one ends at once
- we are killed: the workers see it, and leave

One thread, one loop, no asyncio: a fault of what serves must not be able to reach what restarts it.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hybrid.limits import Limits
from hybrid.web.assignment import LEAVING, READY
from hybrid.web.place import Place
from hybrid.web.process import State, WorkerProcess, describe_end
from hybrid.web.reload import Reload
from hybrid.web.signals import signals_as_bytes
from hybrid.web.systemd import ServiceManager
from hybrid.web.terminal import Terminal

_log = logging.getLogger(__name__)
_TICK_S: Final = 1.0  # between two looks at the clock; ends and words of workers wake the loop by themselves
_LATE_S: Final = 2.0  # a turn that late: we were stopped, and the workers probably too
_LEAVING_MARGIN_S: Final = 5.0  # behind the grace, for closing what is not a connection (the broker)
_UNUSABLE: Final = 2  # the exit code for settings that are refused: the same again would fail again


@dataclass(frozen=True, slots=True)
class Crew:
    """What workers are made of."""

    command: Sequence[str]
    """Starts a worker; `--worker ...` is added to it."""
    check_command: Sequence[str]
    """Says with its exit code whether a worker would start now."""
    environment: Mapping[str, str]
    limits: Limits
    directory: str = ""
    """Where workers find each other; see `Assignment`."""
    reread: Callable[[], Limits | None] = field(default=lambda: None)
    """Called when a reload begins: the limits that hold from now on; None keeps the old ones."""


class Supervisor:
    """See the module's text."""

    def __init__(
        self, listeners: Sequence[socket.socket], crew: Crew, manager: ServiceManager, on_ready: Callable[[], None]
    ) -> None:
        """`listeners` are ours to close from here on. `on_ready` is called once, when all workers accept."""
        is_shared = len(listeners) > 1 and listeners[0] is listeners[1]
        self.places = [Place(number, listener, is_shared=is_shared) for number, listener in enumerate(listeners, 1)]
        self.limits = crew.limits
        self._crew = crew
        self._manager = manager
        self._on_ready = on_ready
        self._selector = selectors.DefaultSelector()
        self._terminal = Terminal()
        self._reload: Reload | None = None
        self._reload_again = False
        self._has_served = False
        self._has_told_ready = False
        self._ready = 0
        self._code: int | None = None  # set when the end has begun
        self._last_turn_s = self._alive_at_s = time.monotonic()

    def run(self) -> int:
        """Run until told to end; returns the exit code. For the main thread."""
        with signals_as_bytes((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)) as told:
            self._selector.register(told, selectors.EVENT_READ)
            try:
                # By itself: when the settings are refused, one worker says so, and not each of them.
                self.start(self.places[0])
                while self._code is None or any(True for _ in self._processes()):
                    self._turn(told)
            finally:
                for process in self._processes():
                    process.kill()
                self._close_listeners()
                self._selector.close()
        return self._code

    # -- what the reload uses

    def start(self, place: Place, *, as_successor: bool = False) -> WorkerProcess | None:
        """Start a worker there; None when the system cannot, and then it is tried again."""
        place.start_at_s = None
        try:
            crew = self._crew
            process = WorkerProcess(place.number, crew.command, crew.environment, place.listener, crew.directory)
        except OSError as error:
            _log.error("worker %d cannot be started: %s", place.number, error.strerror or error)
            if not as_successor:
                self._start_later(place, 0.0, was_ready=False)
            return None
        assert process.lifeline is not None
        self._selector.register(process.lifeline, selectors.EVENT_READ, process)
        if as_successor:
            place.successor = process
        else:
            place.worker = process
        return process

    def reread(self) -> None:
        """Take the limits over that the file says now."""
        self.limits = self._crew.reread() or self.limits

    def send_away(self, place: Place, process: WorkerProcess) -> None:
        """Let a worker end that accepts, or is not needed."""
        place.leaving.append(process)
        process.ask_to_leave(time.monotonic() + self.limits.shutdown_grace_s + _LEAVING_MARGIN_S)

    # -- the loop

    def _turn(self, told: socket.socket) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if key.data is None:
                for number in told.recv(4096):
                    self._signalled(signal.Signals(number))
            else:
                self._listen(key.data, key.fileobj)
        now_s = time.monotonic()
        if now_s - self._last_turn_s > _TICK_S + _LATE_S:
            self._excuse(now_s - self._last_turn_s)
        self._last_turn_s = now_s
        self._see_ends()
        if self._code is None:
            self._see_silence(now_s)
            self._see_places(now_s)
            self._see_reload()
            self._tell(now_s)
        for process in self._processes():
            if process.kill_at_s is not None and process.kill_at_s <= now_s:
                if process.state is State.LEAVING:
                    _log.error("%s has not ended in time and is killed", process)
                process.kill()

    def _wait_s(self) -> float:
        """Until something is to be done that nobody announces."""
        times_s = [place.start_at_s for place in self.places if self._code is None]
        times_s += [process.kill_at_s for process in self._processes()]
        next_s = min((at_s for at_s in times_s if at_s is not None), default=math.inf)
        return max(0.0, min(_TICK_S, next_s - time.monotonic()))

    def _processes(self) -> Iterator[WorkerProcess]:
        for place in self.places:
            yield from list(place.processes())

    def _excuse(self, late_s: float) -> None:
        """We were stopped ourselves, or the whole machine was: that is no fault of the workers."""
        _log.warning("the supervisor was stopped for %.1f s", late_s)
        for process in self._processes():
            process.heard_s += late_s
            process.started_s += late_s
            if process.kill_at_s is not None:
                process.kill_at_s += late_s

    # -- signals

    def _signalled(self, number: signal.Signals) -> None:
        if number is signal.SIGCHLD:
            return  # it has woken the loop
        if number is not signal.SIGHUP:
            self._end(number)
        elif self._code is None:
            if self._terminal.has_hung_up():  # a shell sends this once more: the second one does not count
                self._end(number)
            else:
                self._reload_again = True
                for place in self.places:
                    place.hasten()

    def _end(self, number: signal.Signals) -> None:
        if self._code is not None:
            for process in self._processes():
                process.kill()
            os._exit(128 + number)
        self._code = 128 + number if number is signal.SIGINT else 0
        _log.info("%s: all workers are told to end", number.name)
        self._manager.stopping("Workers drain")
        if self._reload is not None:
            self._reload.cancel()
        self._close_listeners()  # the workers close theirs, and nobody is then left waiting in a queue
        for place in self.places:
            working = [process for process in place.processes() if process not in place.leaving]
            place.worker = place.successor = None
            for process in working:
                self.send_away(place, process)

    def _close_listeners(self) -> None:
        for place in self.places:
            place.listener.close()

    # -- workers

    def _listen(self, process: WorkerProcess, lifeline: object) -> None:
        said = process.hear()
        if process.lifeline is None:
            self._selector.unregister(lifeline)  # type: ignore[arg-type]
        place = self.places[process.number - 1]
        if READY in said and process.state is State.STARTING:
            process.state = State.READY
            _log.info("%s is ready", process)
            if process is place.successor:
                self._promote(place, process)
            self._first_is_ready()
        if LEAVING in said:
            self._sent_away(place, process)

    def _sent_away(self, place: Place, process: WorkerProcess) -> None:
        """A worker leaves; if it was not us who told it to, it accepts no more, and another has to."""
        if process.state is State.LEAVING:
            return
        _log.info("%s was told to end, and not by its supervisor", process)
        process.state = State.LEAVING
        process.kill_at_s = time.monotonic() + self.limits.shutdown_grace_s + _LEAVING_MARGIN_S
        was_worker = process is place.worker
        place.remove(process)
        place.leaving.append(process)
        if was_worker and place.successor is None:
            place.start_at_s = time.monotonic()

    def _promote(self, place: Place, process: WorkerProcess) -> None:
        old, place.worker, place.successor = place.worker, process, None
        if old is not None:
            self.send_away(place, old)

    def _first_is_ready(self) -> None:
        if not self._has_served:
            self._has_served = True
            for place in self.places[1:]:
                self.start(place)

    def _see_ends(self) -> None:
        for place in self.places:
            for process in list(place.processes()):
                code = process.code
                if code is not None:
                    self._ended(place, process, code)

    def _ended(self, place: Place, process: WorkerProcess, code: int) -> None:
        if process.lifeline is not None:
            self._selector.unregister(process.lifeline)
            if LEAVING in process.hear():
                self._sent_away(place, process)
            process.close()
        was_worker = process is place.worker
        place.remove(process)
        if process.state is State.LEAVING:
            is_in_form = code in (0, -signal.SIGTERM)  # the latter while it still started
            _log.log(logging.INFO if is_in_form else logging.WARNING, "%s has ended (%s)", process, describe_end(code))
            return
        if not self._has_served and code == _UNUSABLE:
            self._code = code  # it has said why
            return
        was_ready = process.state is State.READY
        how = "" if was_ready else " before it was ready"
        _log.error("%s ended%s: %s", process, how, describe_end(code))
        if was_worker and place.successor is None:
            self._start_later(place, time.monotonic() - process.started_s, was_ready=was_ready)

    def _start_later(self, place: Place, lived_s: float, *, was_ready: bool) -> None:
        pause_s = place.pause_s(lived_s, was_ready=was_ready)
        if pause_s:
            _log.warning("worker %d is started again in %.1f s", place.number, pause_s)
        place.start_at_s = time.monotonic() + pause_s

    def _see_silence(self, now_s: float) -> None:
        for process in self._processes():
            if process.kill_at_s is not None:
                continue
            if process.state is State.STARTING and now_s - process.started_s > self.limits.worker_start_s:
                _log.error("%s is not ready after %g s and is killed", process, self.limits.worker_start_s)
                process.condemn()
            elif process.state is State.READY and now_s - process.heard_s > self.limits.worker_silence_s:
                _log.error(
                    "%s has shown no turn of its event loop for %g s and is killed",
                    process,
                    self.limits.worker_silence_s,
                )
                process.condemn()

    def _see_places(self, now_s: float) -> None:
        for place in self.places:
            if place.tend_queue(now_s):
                _log.warning("nobody accepts in the place of worker %d: its queue is closed", place.number)
            if place.start_at_s is not None and place.start_at_s <= now_s:
                self.start(place)

    # -- reload, and what others are told

    def _see_reload(self) -> None:
        if self._reload is None:
            if self._reload_again and self._has_told_ready:
                self._reload_again = False
                self._manager.reloading()
                self._reload = Reload(self, self._crew.check_command, self._crew.environment)
            return
        self._reload.step()
        if self._reload.outcome:
            self._manager.ready(self._reload.outcome)
            self._reload = None

    def _tell(self, now_s: float) -> None:
        ready, wanted = sum(place.is_ready for place in self.places), len(self.places)
        status = f"{ready} of {wanted} workers accept"
        if not self._has_told_ready and ready == wanted:
            self._has_told_ready = True
            self._on_ready()
            self._manager.ready(status)
        elif self._has_told_ready and self._reload is None and ready != self._ready:
            self._manager.status(status)
        self._ready = ready
        interval_s = self._manager.watchdog_interval_s
        if interval_s is not None and now_s >= self._alive_at_s and self._is_alive(now_s):
            self._alive_at_s = now_s + interval_s
            self._manager.alive()

    def _is_alive(self, now_s: float) -> bool:
        return any(
            place.is_ready and place.worker is not None and now_s - place.worker.heard_s <= self.limits.worker_silence_s
            for place in self.places
        )
