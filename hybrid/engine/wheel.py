"""One timer wheel for the whole process: heartbeats, deadlines, leases, retries.

A timer of the event loop costs about 200 bytes and a place in a heap, and every client needs some. Here a timer is the
caller's own object in the slot of a quarter of a second; to set, move and cancel one is O(1), and the event loop holds
a single timer, only while something is scheduled. The price: a timer fires up to a quarter of a second late (never
early), and all timers of one slot fire together, so callers with many of a kind spread them (jitter) themselves.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Protocol

from hybrid.clock import Clock

_log = logging.getLogger(__name__)

SLOT_S: Final = 0.25
"""The width of a slot: fine enough for everything counted in seconds."""


class Timer(Protocol):
    """What can be scheduled: any object that is hashed by identity. One object has at most one place on the wheel."""

    def wheel_fired(self) -> None:
        """Its time has come; it is on the wheel no more and may be scheduled again from here. Should not raise."""


class _Slot(dict[Timer, None]):
    """The timers of one slot; it knows its own number, so that each of them need not."""

    __slots__ = ("tick",)

    def __init__(self, tick: int) -> None:
        super().__init__()
        self.tick = tick


class Wheel:
    """See the module's text. Not thread-safe: one event loop.

    It reads `clock` only; the event loop's timer merely wakes it. Without a running loop, or with a clock of one's own,
    it is driven by hand with `advance`.
    """

    __slots__ = ("_clock", "_due", "_handle", "_last_tick", "_slots")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[Timer, _Slot] = {}
        self._slots: dict[int, _Slot] = {}
        self._last_tick = math.floor(clock.monotonic_s() / SLOT_S)
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, timer: Timer, delay_s: float) -> None:
        """Fire `timer` once, `delay_s` seconds from now (0.25 s late at most); moves it if it is scheduled already."""
        now_s = self._clock.monotonic_s()
        due = self._due.get(timer)
        if due is not None:
            if due.tick == max(math.ceil((now_s + delay_s) / SLOT_S), self._last_tick + 1):
                return
            self.cancel(timer)
        if not self._due:
            # Nothing was scheduled, so nobody advanced the wheel: no slot between then and now can hold anything.
            self._last_tick = max(self._last_tick, math.floor(now_s / SLOT_S))
        tick = max(math.ceil((now_s + delay_s) / SLOT_S), self._last_tick + 1)
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = _Slot(tick)
        slot[timer] = None
        self._due[timer] = slot
        if self._handle is None:
            self._arm()

    def cancel(self, timer: Timer) -> None:
        """Take `timer` off the wheel; nothing if it is not on it."""
        slot = self._due.pop(timer, None)
        if slot is not None:
            del slot[timer]
            if not slot:
                del self._slots[slot.tick]

    def advance(self, now_s: float) -> None:
        """Fire all that is due at `now_s` (the clock's monotonic time), in the order of their slots."""
        tick = math.floor(now_s / SLOT_S)
        if tick - self._last_tick > len(self._slots):
            # After a long sleep of the machine there are more empty slots to walk through than full ones.
            due = sorted(slot for slot in self._slots if slot <= tick)
        else:
            due = [slot for slot in range(self._last_tick + 1, tick + 1) if slot in self._slots]
        # Before anything fires: what is scheduled meanwhile must not come into a slot that is not looked at again.
        self._last_tick = max(self._last_tick, tick)
        for number in due:
            slot = self._slots.get(number)
            for timer in list(slot or ()):
                if self._due.get(timer) is not slot:
                    continue  # its neighbour has cancelled or moved it
                self.cancel(timer)
                try:
                    timer.wheel_fired()
                except Exception:
                    _log.exception("a timer failed")

    def close(self) -> None:
        """Forget all timers without firing them."""
        self._due.clear()
        self._slots.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # driven by hand
        now_s = self._clock.monotonic_s()
        self._handle = loop.call_later(SLOT_S - now_s % SLOT_S, self._woken)

    def _woken(self) -> None:
        self._handle = None
        self.advance(self._clock.monotonic_s())
        if self._due and self._handle is None:
            self._arm()


class _Alarm:
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def wheel_fired(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


async def rest(wheel: Wheel, delay_s: float) -> None:
    """Wait on the wheel for `delay_s` seconds. Cancel-safe."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    alarm = _Alarm(future)
    wheel.schedule(alarm, delay_s)
    try:
        await future
    finally:
        wheel.cancel(alarm)
