"""One process of the load: its clients, its publishers, and the loop that drives them. One thread, no asyncio."""

from __future__ import annotations

import heapq
import itertools
import random
import ssl
import string
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hybrid.bench.histogram import Histogram
from hybrid.bench.messages import TICK_NS, Counted, Done, Opened, Order, Say, Stopped, Tally, Tick, Told
from hybrid.bench.plan import TRANSPORTS, Transport
from hybrid.bench.poll import READ, WRITE, Poll
from hybrid.bench.publisher import HttpPublisher, Publisher, WebSocketPublisher
from hybrid.bench.reading import EventReader, FrameReader, PollReader
from hybrid.bench.subscriber import Subscriber
from hybrid.bench.wires import Wires
from hybrid.protocol.commands import WirePosition

_SETTLE_NS: Final = 50_000_000
_ANSWERS_S: Final = 5.0
_LOOK_S: Final = 0.02
_DIALS_A_TURN: Final = 64
_PUBLISHES_A_TURN: Final = 256

AnyReader = FrameReader | EventReader | PollReader


class Load:
    """See the module's text. `tell` sends to the coordinator."""

    def __init__(self, order: Order, tell: Callable[[Told], None]) -> None:
        self.order = order
        self.tally = Tally()
        self.wires = Wires(order.target)
        self.tls = _tls(order)
        self.free: deque[Publisher] = deque()
        self.refused: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.renewed = 0
        self.delayed = 0
        self.now_ns = time.monotonic_ns
        self.is_over = False
        self._tell = tell
        self._poll = Poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._masks: dict[int, int] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._local = itertools.cycle(order.target.local_addresses or [""])
        self._readers: dict[tuple[str, bool], AnyReader] = {}
        self._make_parties()
        # opening
        self._dialling: deque[Subscriber] = deque()
        self._connecting = 0
        self._at_once = 0
        self._began_ns = 0
        self._has_told_opened = True
        self._awaited: set[Subscriber] = set()
        self._ready: Counter[str] = Counter()
        self._connects: list[tuple[int, int, int]] = []
        self._reconnects: list[tuple[int, int, int]] = []
        self._cuts: Counter[str] = Counter()
        # publishing
        self._is_publishing = False
        self._heads: dict[str, tuple[str, int, int]] = {}
        self._sent = self._answered = self._unsent = 0
        self._answering = Histogram()
        self._late = Histogram()
        self._due_ns = 0.0
        self._had_free = True
        self._free_at_ns = 0
        self._turn = itertools.count(order.index)
        # what the load itself needs
        self._tick_ns = self._settled_ns = self._next_tick_ns = self.now_ns()
        self._cpu_ns = time.process_time_ns()
        self._starved_ns = _starved_ns()
        self._lag_max_ns = 0

    def _make_parties(self) -> None:
        order, plan = self.order, self.order.plan
        tokens = order.tokens or [""]
        self.subscribers = [
            Subscriber(
                self, transport, [plan.channel(n) for n in plan.channels_of(number)], tokens[number % len(tokens)]
            )
            for number, transport in enumerate(plan.transports())
            if number % plan.processes == order.index
        ]
        self.publishers: list[Publisher] = []
        mine = [number for number in range(plan.publishers) if number % plan.processes == order.index]
        for number in mine:
            token = tokens[(plan.clients + number) % len(tokens)]
            if plan.publish_over == "websocket":
                self.publishers.append(WebSocketPublisher(self, token, plan.in_flight))
            else:
                self.publishers += [HttpPublisher(self, token) for _ in range(plan.in_flight)]
        share = len(mine) / plan.publishers if plan.publishers else 0.0
        self._rate_per_ns = plan.rate_per_s * share / 1e9
        self._left: int | None = None
        if plan.publications:
            self._left = sum(_part(plan.publications, number, plan.publishers) for number in mine)
        letters = string.ascii_letters + string.digits
        self._pad = "".join(random.choices(letters, k=max(0, plan.size - 22))).encode()

    # -- what parties ask

    def address(self, attempt: int) -> tuple[int, str, int]:
        """Where to connect: another one of the server's addresses with every failure."""
        addresses = self.order.target.addresses
        return addresses[attempt % len(addresses)]

    def local_address(self) -> str:
        """From where to connect; empty for wherever."""
        return next(self._local)

    def channel(self, number: int) -> str:
        """The name of a channel."""
        return self.order.plan.channel(number)

    def reader(self, transport: Transport, *, is_chunked: bool) -> AnyReader:
        """The reader that all clients of this transport share."""
        key = transport, is_chunked
        reader = self._readers.get(key)
        if reader is None:
            if transport == "websocket":
                reader = FrameReader()
            elif transport == "longpoll":
                reader = PollReader()
            else:
                reader = EventReader(is_plain=transport == "plain-sse", is_chunked=is_chunked)
            self._readers[key] = reader
        return reader

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call it later. Nothing is cancelled: callbacks look whether they still matter."""
        heapq.heappush(self._timers, (self.now_ns() + int(seconds * 1e9), next(self._serial), callback))

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Have the handler called when a descriptor is ready; replaces what was said of it before."""
        self._handlers[descriptor] = handler
        mask = self._masks.get(descriptor)
        if mask is None:
            self._poll.add(descriptor, events)
        elif mask != events:
            self._poll.change(descriptor, events)
        self._masks[descriptor] = events

    def settle_writing(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Everything was written."""
        if self._masks.get(descriptor, 0) & WRITE:
            self.watch(descriptor, READ, handler)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor, if it is known."""
        if self._handlers.pop(descriptor, None) is not None:
            del self._masks[descriptor]
            with suppress(OSError):
                self._poll.remove(descriptor)

    # -- what parties tell

    def subscriber_ready(self, subscriber: Subscriber, since_us: int, attempt_us: int) -> None:
        """It is subscribed, for the first time or again."""
        self._ready[subscriber.transport] += 1
        self._connecting -= 1
        if subscriber.was_ready:
            self._reconnects.append((since_us, since_us, attempt_us))
        else:
            self._connects.append(((self.now_ns() - self._began_ns) // 1_000, since_us, attempt_us))
        subscriber.was_ready = True
        self._awaited.discard(subscriber)
        self._look_whether_opened()

    def subscriber_lost(self, subscriber: Subscriber, reason: str | None) -> None:
        """It was subscribed and is not any more; without a reason it was our doing."""
        self._ready[subscriber.transport] -= 1
        if reason is not None:
            self._cuts[reason] += 1
        self._connecting += 1

    def subscriber_refused(self, subscriber: Subscriber, reason: str) -> None:
        """An attempt failed."""
        self.errors[reason] += 1

    def subscriber_gave_up(self, subscriber: Subscriber) -> None:
        """It will not come again."""
        self._connecting -= 1
        self._awaited.discard(subscriber)
        self._look_whether_opened()

    def subscriber_waits(self, subscriber: Subscriber, seconds: float) -> None:
        """It comes again later."""
        self.after(seconds, subscriber.dial)

    def publisher_ready(self, publisher: Publisher) -> None:
        """It can publish."""
        self._look_whether_opened()

    def publisher_lost(self, publisher: Publisher) -> None:
        """It cannot publish for now, or never again."""
        self.free = deque(other for other in self.free if other is not publisher)
        self._look_whether_opened()

    def publish_answered(self, channel: int, position: WirePosition, sent_ns: int) -> None:
        """A publish is in the log at this position."""
        now_ns = self.now_ns()
        self._answered += 1
        self._answering.add((now_ns - sent_ns) // 1_000)
        name = self.channel(channel)
        head = self._heads.get(name)
        if head is None or head[0] != position.epoch or head[1] < position.offset:
            self._heads[name] = (position.epoch, position.offset, now_ns)

    # -- what the coordinator says

    def obey(self, say: Say) -> None:
        """Do what the coordinator wants next."""
        plan = self.order.plan
        if say.do == "open":
            self._open(plan.clients if plan.is_connect_storm else plan.connecting_at_once, say.at_ns)
        elif say.do == "storm":
            self._storm_again(say.at_ns)
        elif say.do == "publish":
            self._is_publishing = bool(self.publishers)
            self._due_ns = float(self.now_ns())
            if self._rate_per_ns:
                # Processes do not send all in the same moment.
                self._due_ns += self.order.index / plan.processes / self._rate_per_ns
        elif say.do == "stop":
            if self._is_publishing and self._left != 0:
                self._unsent = max(0, int((self.now_ns() - self._due_ns) * self._rate_per_ns))
            self._dialling.clear()  # who is not there yet, as it was interrupted, need not come any more
            self._stop(self.now_ns() + int(_ANSWERS_S * 1e9))
        elif say.do == "finish":
            there = [subscriber for subscriber in self.subscribers if subscriber.was_ready]
            self._finish(there, say.heads, self.now_ns() + int(plan.drain_s * 1e9))
        elif say.do == "leave":
            self.is_over = True

    def _open(self, at_once: int, at_ns: int) -> None:
        self._at_once = max(1, -(-at_once // self.order.plan.processes))
        self._began_ns = at_ns
        self._dialling = deque(self.subscribers)
        self._awaited = set(self.subscribers)
        for subscriber in self.subscribers:
            subscriber.since_ns = at_ns if self.order.plan.is_connect_storm else 0
        self._has_told_opened = False
        for publisher in self.publishers:
            publisher.dial()
        self._look_whether_opened()

    def _storm_again(self, at_ns: int) -> None:
        """Cut everybody who is there; they come back at once, all together."""
        self._has_told_opened = False
        cut = [subscriber for subscriber in self.subscribers if subscriber.is_ready]
        self._awaited = set(cut)
        for subscriber in cut:
            subscriber.cut(at_ns)
        for subscriber in cut:
            subscriber.dial()
        self._look_whether_opened()

    def _look_whether_opened(self) -> None:
        if self._has_told_opened or self._awaited:
            return
        if not all(publisher.is_ready or publisher.has_failed for publisher in self.publishers):
            return
        self._has_told_opened = True
        self._report()
        self._tell(Opened(sum(1 for subscriber in self.subscribers if subscriber.has_failed)))

    def _stop(self, until_ns: int) -> None:
        self._is_publishing = False
        waiting = sum(publisher.in_flight for publisher in self.publishers)
        if waiting and self.now_ns() < until_ns:
            self.after(_LOOK_S, lambda: self._stop(until_ns))
            return
        if waiting:
            self.refused["not answered within 5 s"] += waiting
        self._report()
        self._tell(Stopped(self._heads, self._unsent))

    def _finish(self, behind: list[Subscriber], heads: dict[str, tuple[str, int, int]], until_ns: int) -> None:
        behind = [subscriber for subscriber in behind if not subscriber.is_complete(heads)]
        if behind and self.now_ns() < until_ns:
            self.after(_LOOK_S, lambda: self._finish(behind, heads, until_ns))
            return
        self.tally.incomplete = len(behind)
        if behind and len(self.tally.examples) < 5:
            self.tally.examples.append(behind[0].where(heads))
        self._report()
        self._tell(Done(self.tally))

    # -- the loop

    def run(self, hear_descriptor: int, hear: Callable[[int], None]) -> None:
        """Until `is_over`."""
        self.watch(hear_descriptor, READ, hear)
        handlers, poll = self._handlers, self._poll
        while not self.is_over:
            events = poll.wait(self._wait_s())
            began_ns = self.now_ns()
            for descriptor, mask in events:
                handler = handlers.get(descriptor)
                if handler is not None:
                    handler(mask)
            self._run_timers()
            if self._is_publishing:
                self._publish()
            if self._dialling:
                self._dial()
            ended_ns = self.now_ns()
            self._lag_max_ns = max(self._lag_max_ns, ended_ns - began_ns)
            if ended_ns >= self._next_tick_ns:
                self._next_tick_ns = (ended_ns // TICK_NS + 1) * TICK_NS
                self._report()
            elif ended_ns - self._settled_ns > _SETTLE_NS:
                self._settle(ended_ns)

    def _wait_s(self) -> float:
        now_ns = self.now_ns()
        until_ns = self._next_tick_ns
        if self._timers:
            until_ns = min(until_ns, self._timers[0][0])
        if self._dialling and self._connecting < self._at_once:
            return 0.0
        if self._is_publishing and self.free and self._left != 0:
            if not self._rate_per_ns:
                return 0.0
            until_ns = min(until_ns, int(self._due_ns))
        return max(0, until_ns - now_ns) / 1e9

    def _run_timers(self) -> None:
        now_ns = self.now_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            heapq.heappop(self._timers)[2]()

    def _dial(self) -> None:
        for _ in range(_DIALS_A_TURN):
            if not self._dialling or self._connecting >= self._at_once:
                return
            subscriber = self._dialling.popleft()
            if not subscriber.since_ns:
                subscriber.since_ns = self.now_ns()
            self._connecting += 1
            subscriber.dial()

    def _publish(self) -> None:
        now_ns = self.now_ns()
        if self.free and not self._had_free:
            self._free_at_ns = now_ns
        for _ in range(_PUBLISHES_A_TURN):
            if not self.free or self._left == 0:
                break
            stamp_ns = now_ns = self.now_ns()
            if self._rate_per_ns:
                due_ns = int(self._due_ns)
                if due_ns > now_ns:
                    break
                self._due_ns += 1 / self._rate_per_ns
                if self._free_at_ns > due_ns:
                    stamp_ns = due_ns  # it waited for the server's answers, and that is the server's time
                self._late.add((now_ns - max(due_ns, self._free_at_ns)) // 1_000)
            publisher = self.free.popleft()
            publisher.publish(next(self._turn) % self.order.plan.channels, b'"@%019d%b"' % (stamp_ns, self._pad))
            self._sent += 1
            if self._left is not None:
                self._left -= 1
                if not self._left:
                    self._report()  # so that the coordinator knows at once
        self._had_free = bool(self.free)

    # -- what is told

    def _settle(self, now_ns: int) -> None:
        """Turn times of arrival into latencies, little by little: all at once it would hold up what comes meanwhile."""
        self._settled_ns = now_ns
        for reader in self._readers.values():
            reader.settle()

    def _report(self) -> None:
        now_ns, cpu_ns, starved_ns = self.now_ns(), time.process_time_ns(), _starved_ns()
        transports: dict[str, Counted] = {}
        received_bytes = 0
        for name in TRANSPORTS:
            histogram, last_ns, deliveries = Histogram(), 0, 0
            for (transport, _), reader in self._readers.items():
                if transport == name:
                    reader.settle()
                    deliveries += reader.deliveries
                    received_bytes += reader.received_bytes
                    reader.take_latencies(histogram)
                    last_ns = max(last_ns, reader.last_ns)
            if name in self.order.plan.mix:
                transports[name] = Counted(self._ready[name], deliveries, histogram.pairs(), histogram.max_us, last_ns)
        tally = self.tally
        self._tell(
            Tick(
                at_ns=now_ns,
                transports=transports,
                sent=self._sent,
                answered=self._answered,
                is_mute=all(publisher.has_failed for publisher in self.publishers),
                answering=self._answering.pairs(),
                answering_max_us=self._answering.max_us,
                refused=dict(self.refused),
                errors=dict(self.errors),
                delayed=self.delayed,
                cuts=dict(self._cuts),
                renewed=self.renewed,
                connects=self._connects,
                reconnects=self._reconnects,
                faults=tally.lost + tally.repeated + tally.reordered + tally.unexpected,
                resets=tally.resets,
                received_bytes=received_bytes,
                busy_us=(cpu_ns - self._cpu_ns) // 1_000,
                wall_us=(now_ns - self._tick_ns) // 1_000,
                starved_us=(starved_ns - self._starved_ns) // 1_000,
                lag_max_us=self._lag_max_ns // 1_000,
                late=self._late.pairs(),
                late_max_us=self._late.max_us,
            )
        )
        self._tick_ns, self._cpu_ns, self._starved_ns = now_ns, cpu_ns, starved_ns
        self._sent = self._answered = self.delayed = self.renewed = self._lag_max_ns = 0
        self._answering, self._late = Histogram(), Histogram()
        self._connects, self._reconnects = [], []
        for counter in (self.refused, self.errors, self._cuts):
            counter.clear()


def _part(count: int, number: int, of: int) -> int:
    """How many of `count` things fall to this number, when they are dealt out in turn."""
    return count // of + (1 if number < count % of else 0)


def _starved_ns() -> int:
    """For how long this process could have run and had no core, as far as the system tells (Linux)."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _tls(order: Order) -> ssl.SSLContext | None:
    target = order.target
    if not target.is_secure:
        return None
    context = ssl.create_default_context(cafile=target.ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    if target.is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
