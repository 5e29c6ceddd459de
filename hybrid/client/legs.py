"""Which legs there are, and which one counts: races, moves, cuts and coming back.

At any time one leg is *taking*: the one that was confirmed last; it is *current* once the server has said `subscribed`
on it. What the legs carry is the session's; here it is only decided that one of them carries, on which transport, when
to try again and when to stop.

    open (candidate) --nonce came back--> confirm (taking) --subscribed--> current --cut, replaced, ended--> open ...

Rules: `docs/protocol.md`, "Choosing a transport" and "Opening a leg".
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from hybrid.cancelling import ended
from hybrid.client.backoff import Backoff
from hybrid.client.credentials import TokenFailed
from hybrid.client.doubts import Doubts
from hybrid.client.ending import Ending, network, of_number
from hybrid.client.ladder import Ladder
from hybrid.client.leg import Leg, LegHost
from hybrid.client.longpoll import LongPollLeg
from hybrid.client.sse import SseLeg
from hybrid.client.timing import Timing
from hybrid.client.values import ClientState, Hooks, LegEvent, Stats
from hybrid.client.websocket import WebSocketLeg
from hybrid.errors import HybridError
from hybrid.protocol.commands import Attach, AttachSubscription, ClientInfo
from hybrid.protocol.pushes import Attached

LEGS: Final[dict[str, type[Leg]]] = {"websocket": WebSocketLeg, "sse": SseLeg, "longpoll": LongPollLeg}
"""Every transport there is, the best first."""
_LOG_MAX: Final = 1_000
_ROTATED: Final = 4412
_REPLACED: Final = 4509
_CREDENTIAL_FAILURES_MAX: Final = 2
_SLOW_TIMES: Final = 4  # of the present leg's time to open, and a second: what comes in lumps opens late
_HEAD_START_MAX_S: Final = 1.0  # of what took longer when it worked last


class LegsOwner(LegHost, Protocol):
    """The session, as its legs' keeper needs it."""

    error: HybridError | None

    @property
    def is_at_rest(self) -> bool:
        """True while no command that changes the session waits for its answer."""

    def identity(self, is_polled: bool) -> tuple[str, int]:
        """The session and the last numbered push, for an attach; ("", 0) for a new session."""

    def confirming(self, leg: Leg) -> list[AttachSubscription]:
        """What is wanted, for a confirm that is sent now."""

    def leg_lost(self) -> None:
        """The leg that was taking is gone."""

    def forget_session(self) -> None:
        """The session is somebody else's now."""

    def send_all(self) -> None:
        """Send what waits."""

    def close(self, error: HybridError | None = None) -> None:
        """The server said stay away."""


class Legs:
    """See the module's text. `run` and the tasks it starts live in `group`."""

    def __init__(
        self,
        owner: LegsOwner,
        transports: tuple[str, ...],
        timing: Timing,
        stats: Stats,
        hooks: Hooks,
        group: asyncio.TaskGroup,
    ) -> None:
        self.state: ClientState = "connecting"
        self.current: Leg | None = None
        self.taking: Leg | None = None
        self.is_moving = False
        self.log: deque[LegEvent] = deque(maxlen=_LOG_MAX)
        self._owner = owner
        self._transports = transports
        self._timing = timing
        self._stats = stats
        self._hooks = hooks
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._ladder = Ladder(transports, self._loop.time)
        self._doubts = Doubts(owner.endpoint, self._ladder, timing, hooks, group)
        self._has_been_ready = False
        self._woken = asyncio.Event()
        self._open_legs: set[Leg] = set()
        self._attempt = 0
        self._backoff = Backoff(timing.backoff_base_s, timing.backoff_max_s, patient_s=timing.backoff_patient_s)
        self._one_at_a_time = asyncio.Lock()
        self._lost = asyncio.Event()
        self._last_ending = Ending()
        self._credential_failures = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Keep a leg current until the server says stay away or this is cancelled."""
        while self._owner.error is None:
            async with self._one_at_a_time:
                ending = await self._connect()
            if ending is None:
                await self._lost.wait()
                ending = self._last_ending
            self._after(ending)
            if self._owner.error is None:
                await self._rest(ending)

    async def probe(self) -> None:
        """On a lesser transport than the best allowed, look for a better one now and then; make before break."""
        interval_s = self._timing.probe_interval_s
        while True:
            await asyncio.sleep(interval_s * (0.75 + self._backoff.jitter_s(0.5)))
            if self.current is None:
                continue
            for better in self._ladder.better(self.current.transport):
                try:
                    await self.move_to(better, is_probe=True)
                except (HybridError, ConnectionError):
                    interval_s = min(interval_s * 2, self._timing.probe_interval_max_s)
                else:
                    interval_s = self._timing.probe_interval_s
                    break

    async def move_to(self, transport: str, *, is_probe: bool = False) -> None:
        """Carry the session over to another transport, make before break. Raises ConnectionError, or HybridError.

        The old leg stays current when it fails. What is only a `probe` has to open about as fast as that and to live
        for a while before it is used. Cancel-safe.
        """
        await self.connected()
        async with self._one_at_a_time:
            former = self.current
            if former is None:
                raise ConnectionError(f"{transport}: the leg to move from ended meanwhile")
            leg = self._open(transport, is_confirmed=False)
            self.note("moving", leg)
            try:
                async with asyncio.timeout(self._timing.connect_timeout_s):
                    await self.until(lambda: leg.opened.done() or self.current is not former)
                    if leg.opened.done() and isinstance(ended := leg.opened.result(), Ending):
                        raise ConnectionError(f"{transport}: {ended.detail}")
                    if is_probe:
                        await self._prove(leg, former)
                    self.is_moving = True
                    if leg.is_polled or former.is_polled or leg.session != former.session:
                        # Numbers and seals do not mix, and another node's session has numbers of its own: what is
                        # under way must be answered where it was sent.
                        await self.until(lambda: self._owner.is_at_rest or self.current is not former)
                if self.current is not former or leg not in self._open_legs:
                    raise ConnectionError(f"{transport}: a leg ended meanwhile")
                self._confirm(leg)
                was_confirmed = await self._became_current(leg, self._timing.patience_s + 2 * leg.latency_s, "held")
                former.abort()
                if not was_confirmed:
                    raise ConnectionError(f"{transport}: it ended before it was used")
                self._stats.moves += 1
                if not is_probe:
                    self._ladder.pin(transport)
            except TimeoutError:
                raise ConnectionError(f"{transport}: no answer in time") from None
            finally:
                self.is_moving = False
                if leg is not self.taking:
                    leg.abort()
                self._owner.send_all()

    async def _prove(self, leg: Leg, former: Leg) -> None:
        """Longer than what kills a stream after its handshake takes. Raises ConnectionError."""
        if leg.latency_s > _SLOW_TIMES * former.latency_s + 1.0:
            self._ladder.failed(leg.transport, "slow")
            raise ConnectionError(f"{leg.transport}: it is slow to open")
        try:
            async with asyncio.timeout(self._timing.probation_s):
                await self.until(lambda: leg not in self._open_legs or self.current is not former)
        except TimeoutError:
            return
        raise ConnectionError(f"{leg.transport}: a leg ended meanwhile")

    def wake(self) -> None:
        """The network has changed, or the machine has slept: come back now, or see whether the leg still lives.

        A delay that the server asked for is kept all the same.
        """
        self._woken.set()
        if self.current is not None:
            self.current.is_woken = True
            self.current.is_doubted.set()
            self.current.poll_anew()

    def cut(self) -> None:
        """Drop the leg that is current, as a cut cable would."""
        if self.taking is not None:
            self.taking.abort()

    async def connected(self) -> None:
        """Return when a leg is current. Raises HybridError when the server said stay away."""
        await self.until(lambda: self.current is not None or self._owner.error is not None)
        if self._owner.error is not None:
            raise self._owner.error

    async def goodbye(self) -> None:
        """Tell the server that this client will not come back; bounded by the transport's own close timeout."""
        if self.current is not None:
            await self.current.goodbye()

    def abort_all(self) -> None:
        """End every leg at once."""
        for leg in list(self._open_legs):
            leg.abort()
        self._doubts.close()
        self.changed()

    def become(self, state: ClientState, reason: str = "") -> None:
        """Tell of another state."""
        if state != self.state:
            self.state = state
            self._hooks.state(state, reason)

    # -- what the session saw on a leg

    def opened(self, leg: Leg, attached: Attached) -> bool:
        """The nonce came back. False, and the leg aborted, when it is not the one that was sent."""
        if attached.nonce != leg.attach.nonce or attached.attempt != leg.attempt:
            leg.opened.set_result(network("the nonce that came back is not the one that was sent"))
            leg.abort()
            return False
        self._stats.attaches += 1
        self.note("attached", leg)
        leg.opened.set_result(attached)
        self.changed()
        return True

    def subscribed(self, leg: Leg) -> None:
        """The server has said what the leg that is taking carries: it is current."""
        self._credential_failures = 0
        self._stats.reconnects += self.state == "connecting" and self._has_been_ready
        self._has_been_ready = True
        self.current = leg
        leg.ready_s = self._loop.time()
        leg.subscribed.set()
        self._ladder.worked(leg.transport, leg.latency_s)
        self.note("current", leg)
        self.become("connected")
        self._doubts.watch(leg, lambda: leg is self.current)
        self._loop.call_later(self._timing.settled_after_s, self._settled, leg)
        self.changed()

    def _settled(self, leg: Leg) -> None:
        """It lived for a while: what ends it now starts the backoff from short again."""
        if self.current is leg:
            self._backoff.reset()

    # -- opening

    async def _connect(self) -> Ending | None:
        """Race the transports, each with a head start before the next, and confirm the first whose nonce came back.

        None when a leg is current; otherwise why there is none.
        """
        legs: list[Leg] = []
        endings: dict[str, Ending] = {}
        names = self._ladder.order()
        is_only = len(names) == 1
        self._lost.clear()
        try:
            while names or len(endings) < len(legs):
                if names:
                    legs.append(self._open(names.pop(0), is_confirmed=is_only))
                winner = await self._first_opened(legs, endings, self._head_start_s(legs, names))
                told = next((ending for ending in endings.values() if not ending.is_network), None)
                if told is not None and told.delay_s is not None and len(endings) < len(legs):
                    # No more are let in now; a leg that is on its way already may have been.
                    start_s = self._loop.time()
                    winner = await self._first_opened(legs, endings, min(told.delay_s, self._timing.connect_timeout_s))
                    told = replace(told, delay_s=max(0.0, told.delay_s - (self._loop.time() - start_s)))
                if winner is not None:
                    if winner is not self.taking:
                        self._confirm(winner)
                    has_others = bool(names) or len(endings) + 1 < len(legs)
                    patience_s = self._timing.patience_s + 2 * winner.latency_s
                    if await self._became_current(winner, patience_s if has_others else None):
                        return None
                    if not self._last_ending.is_network or self._owner.error is not None:
                        return self._last_ending
                    # It opened, and then nothing came of it: another one may do better.
                    endings[winner.transport] = self._last_ending
                elif told is not None:
                    return told  # the server itself has spoken; another transport would hear the same
                elif not names and len(endings) < len(legs):
                    for leg in legs:
                        if leg.transport not in endings:
                            self._ladder.failed(leg.transport, "mute")
                            endings[leg.transport] = network("no answer in time")
                elif names and await self._is_away(legs[-1], endings):
                    break
            self._doubts.tell_unreachable(endings, lambda: self.current is None and self._owner.error is None)
            return network("; ".join(f"{name}: {ending.detail}" for name, ending in endings.items()) or "no answer")
        finally:
            for leg in legs:
                if leg is not self.taking:
                    if self.current is not None and leg.transport not in endings:
                        self._ladder.failed(leg.transport, "slow")
                    leg.abort()

    async def _is_away(self, leg: Leg, endings: dict[str, Ending]) -> bool:
        """What worked until now has failed, but so would all else: it is not given up for a server that is away."""
        has_failed = leg.transport == self._doubts.sound and leg.transport in endings
        return has_failed and not await self._doubts.is_server_there()

    def _head_start_s(self, legs: list[Leg], names: list[str]) -> float:
        """How long the last one opened is waited for before the next."""
        timing, transport = self._timing, legs[-1].transport
        if not names:
            return timing.connect_timeout_s
        if self._ladder.is_demoted(names[0]):
            return timing.last_resort_s
        if len(legs) == 1 and transport == self._doubts.sound:
            return timing.head_start_sound_s
        if len(legs) == 1 and self._ladder.has_worked(transport):
            return max(timing.head_start_s, min(_HEAD_START_MAX_S, 3 * self._ladder.latency_s))
        return timing.head_start_s

    async def _first_opened(self, legs: list[Leg], endings: dict[str, Ending], wait_s: float) -> Leg | None:
        deadline_s = self._loop.time() + wait_s
        waiting = [leg for leg in legs if leg.transport not in endings]
        while waiting:
            left_s = deadline_s - self._loop.time()
            done, _ = await asyncio.wait(
                {leg.opened for leg in waiting}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            for leg in list(waiting):
                if leg.opened in done:
                    waiting.remove(leg)
                    answer = leg.opened.result()
                    if isinstance(answer, Attached):
                        return leg
                    endings[leg.transport] = answer
                    if not answer.is_network:
                        return None
            if not done:
                return None
        return None

    async def _became_current(self, leg: Leg, patience_s: float | None = None, fault: str = "") -> bool:
        """Wait for `subscribed` on a confirmed leg; False, and the leg aborted, when it did not come in time.

        `fault`: what that says of its transport.
        """
        task = leg.task
        assert task is not None
        subscribed = asyncio.create_task(leg.subscribed.wait())
        try:
            await asyncio.wait(
                {subscribed, task},
                timeout=self._timing.connect_timeout_s if patience_s is None else patience_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            await ended(subscribed)
        if leg.subscribed.is_set():
            return True
        if not task.done():
            self._last_ending = network("the leg was confirmed, but nothing came of it")
            self._ladder.failed(leg.transport, "held")
            leg.abort(self._last_ending, fault)
            await asyncio.wait({task})
        return False

    def _open(self, transport: str, *, is_confirmed: bool) -> Leg:
        self._attempt += 1
        kind = LEGS[transport]
        session, last_seq = self._owner.identity(kind.is_polled)
        attach = Attach(
            attempt=self._attempt,
            nonce=secrets.token_hex(8),
            session=session,
            last_seq=last_seq,
            client=ClientInfo("hybrid-python"),
            confirm=is_confirmed,
            heartbeat_s=self._ladder.heartbeat_s,
            tried=self._ladder.tried(transport),
        )
        leg = kind(self._owner, attach)
        self._open_legs.add(leg)
        if is_confirmed:
            self._take_over(leg)
        self.note("opening", leg)
        leg.task = self._group.create_task(self._carry(leg))
        return leg

    async def _carry(self, leg: Leg) -> None:
        try:
            ending = await leg.carry()
        except asyncio.CancelledError:
            if not leg.is_aborted:
                raise
            ending = leg.verdict
        except TokenFailed as error:
            ending = network(error)
        except HybridError as error:
            ending = of_number(error.row.number, str(error), error.retry_after_s)
        self._open_legs.discard(leg)
        self.note("ended", leg, ending)
        if not leg.opened.done():
            leg.opened.set_result(ending)
        self._doubts.judge(leg, ending, is_taking=leg is self.taking)
        if leg is self.taking:
            was_current = self.current is leg
            self._last_ending = ending
            self.taking = self.current = None
            self._owner.leg_lost()
            self._lost.set()
            if was_current:
                self.become("connecting", ending.detail)
        self.changed()

    def _confirm(self, leg: Leg) -> None:
        """From here on publications are taken from this leg only."""
        self._take_over(leg)
        leg.confirm(self._owner.confirming(leg))

    def _take_over(self, leg: Leg) -> None:
        self.taking = leg
        self.current = None
        self._lost.clear()

    # -- after an end

    def _after(self, ending: Ending) -> None:
        """Decide what an ending means for the whole client."""
        if ending.is_about_credentials:
            self._owner.credentials.invalidate()
            self._credential_failures += 1
            if self._credential_failures >= _CREDENTIAL_FAILURES_MAX:
                self._owner.close(ending.as_error())
        elif ending.number == _REPLACED:
            # Somebody else continues this session, such as a process forked from this one: live on as another.
            self._owner.forget_session()
        elif not ending.comes_back:
            self._owner.close(ending.as_error())

    async def _rest(self, ending: Ending) -> None:
        if ending.is_about_credentials:
            return
        if ending.number == _REPLACED:
            delay_s = self._backoff.jitter_s(1.0)
        elif ending.number == _ROTATED and ending.delay_s is None and not self._backoff.failures:
            delay_s = self._backoff.jitter_s(0.1)  # no failure; the backoff of the next one is what stops a loop
            self._backoff.failures += 1
        elif ending.delay_s is not None:
            delay_s = ending.delay_s
        else:
            delay_s = self._backoff.next_delay_s()
        self.record(LegEvent(self._loop.time(), "waiting", "", self._attempt, ending.number, f"{delay_s:.3f} s"))
        self._woken.clear()
        if ending.delay_s is not None:
            await asyncio.sleep(delay_s)  # a place that is kept for us at that time
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._woken.wait()

    # -- waiting

    def note(self, what: str, leg: Leg, ending: Ending | None = None) -> None:
        """Write a line of the log."""
        number, detail = (ending.number, ending.detail) if ending is not None else (0, "")
        self.record(LegEvent(self._loop.time(), what, leg.transport, leg.attempt, number, detail))

    def record(self, event: LegEvent) -> None:
        """Write it into the log, and tell of it."""
        self.log.append(event)
        self._hooks.leg(event)

    def changed(self) -> None:
        """Wake whoever waits in `until`."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that legs, replies and ends can bring about. Cancel-safe."""
        while not is_true():
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(future)
            await future
