"""The load: many subscribers and a few publishers in one thread, cheap enough to keep a server on another core busy.

Each publication carries `@` and the monotonic time in nanoseconds at which it was sent, or, at a rate, was due. For
every subscriber the `@`s are counted as they arrive, whatever surrounds them, with one buffer for all; for some, evenly
spread, all bytes are kept and read afterwards: every publication must be there once, those of each publisher in the
order in which it sent them, all in the same order for everybody, with consecutive offsets where the server gives any;
and the times tell the latency.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tests.bench.dialects import Dialect, Publishing

MARK = ord("@")
OPENING_AT_ONCE = 16
SAMPLES = 20  # with all bytes kept; of a rate, whose slowest clients matter, more
SAMPLES_OF_A_RATE = 100
STALLED_S = 15.0
POLL_STEP_S = 0.001  # poll and epoll round up to these: the rest of the wait for a due publication is spent looking
REQUESTS_PER_CONNECTION = 900  # Hypercorn closes a connection after 1000, which a publish on its way would meet
_SENT_AT = re.compile(rb"@(\d{19})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Failed(Exception):
    """The server did not do what was asked of it; the text says what."""


@dataclass
class Outcome:
    """What one phase of publishing came to."""

    publications: int = 0
    deliveries: int = 0
    expected: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class _Poll:
    """epoll where there is one, else poll, for reading only."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poll = None if self._epoll is not None else select.poll()

    def add(self, descriptor: int) -> None:
        (self._epoll or self._poll).register(descriptor, select.POLLIN)  # type: ignore[union-attr]

    def remove(self, descriptor: int) -> None:
        (self._epoll or self._poll).unregister(descriptor)  # type: ignore[union-attr]

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        if self._epoll is not None:
            return self._epoll.poll(seconds, 4_096)
        assert self._poll is not None
        return self._poll.poll(seconds * 1_000)

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


class Subscriber:
    """One client: its connection and what it has got."""

    __slots__ = ("chunks", "count", "early", "greeting", "is_greeted", "socket")

    def __init__(self, address: tuple[str, int], opening: bytes, greeting: bytes) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)
        self.socket.sendall(opening)
        self.greeting = greeting
        self.early: bytearray | None = bytearray()  # everything until it is ready
        self.is_greeted = False
        self.count = 0
        self.chunks: list[tuple[int, bytes]] | None = None  # of a sample: when it came, and what


class Audience:
    """All subscribers of one server and transport."""

    def __init__(self, address: tuple[str, int], host: str, dialect: Dialect) -> None:
        self._address = address
        self._host = host
        self._dialect = dialect
        self._poll = _Poll()
        self._by_descriptor: dict[int, Subscriber] = {}
        self._buffer = bytearray(1 << 20)
        self._view = memoryview(self._buffer)

    def __len__(self) -> int:
        return len(self._by_descriptor)

    # -- opening

    def open(self, tokens: Sequence[str]) -> None:
        """Open one for each token, a few at a time, and return when all are ready. Raises Failed."""
        pending: dict[int, Subscriber] = {}
        try:
            self._open(iter(tokens), pending)
        finally:
            for subscriber in pending.values():
                subscriber.socket.close()

    def _open(self, waiting: Iterator[str], pending: dict[int, Subscriber]) -> None:
        for token in islice(waiting, OPENING_AT_ONCE):
            self._dial(token, pending)
        last_s = time.monotonic()
        while pending:
            for descriptor, _ in self._poll.wait(1.0):
                subscriber = pending.get(descriptor)
                if subscriber is None:
                    self._receive(self._by_descriptor[descriptor])
                elif self._is_ready(subscriber):
                    del pending[descriptor]
                    self._by_descriptor[descriptor] = subscriber
                    last_s = time.monotonic()
                    for token in islice(waiting, 1):
                        self._dial(token, pending)
            if time.monotonic() - last_s > STALLED_S:
                raise Failed(f"{len(pending)} clients wait to be subscribed ({self._dialect.name})")

    def _dial(self, token: str, pending: dict[int, Subscriber]) -> None:
        opening = self._dialect.opening.format(host=self._host, token=token).encode()
        subscriber = Subscriber(self._address, opening, self._dialect.frame(token))
        pending[subscriber.socket.fileno()] = subscriber
        self._poll.add(subscriber.socket.fileno())

    def _is_ready(self, subscriber: Subscriber) -> bool:
        early = subscriber.early
        assert early is not None
        data = subscriber.socket.recv(65_536)
        early += data
        if not subscriber.is_greeted:
            head_end = early.find(b"\r\n\r\n")
            if head_end >= 0 and bytes(early[9:12]) not in (b"101", b"200"):
                raise Failed(f"a client was refused: {early[:200].decode('latin-1')!r}")
            if head_end >= 0:
                subscriber.is_greeted = True
                if subscriber.greeting:
                    subscriber.socket.sendall(subscriber.greeting)
                del early[: head_end + 4]
        if not data:
            raise Failed(f"a connection was closed before it was subscribed: {early[:200].decode('latin-1')!r}")
        if not subscriber.is_greeted or self._dialect.ready not in early:
            return False
        subscriber.early = None
        return True

    # -- receiving

    def sample(self, samples: int = SAMPLES) -> None:
        """Count anew from here, and keep all that comes for some subscribers, evenly spread over their joining."""
        everybody = list(self._by_descriptor.values())
        step = max(1, len(everybody) // samples)
        for place, subscriber in enumerate(everybody):
            subscriber.count = 0
            subscriber.chunks = [] if place % step == 0 else None

    def receive(self, descriptor: int) -> int:
        """Take what has come on one connection; the publications in it."""
        return self._receive(self._by_descriptor[descriptor])

    def _receive(self, subscriber: Subscriber) -> int:
        length = subscriber.socket.recv_into(self._buffer)
        if not length:
            raise Failed("a subscriber's connection was closed")
        marks = self._buffer.count(MARK, 0, length)
        subscriber.count += marks
        if subscriber.chunks is not None:
            subscriber.chunks.append((time.monotonic_ns(), bytes(self._view[:length])))
        return marks

    def settle(self, quiet_s: float) -> None:
        """Take whatever comes until nothing has come for so long."""
        last_s = time.monotonic()
        while time.monotonic() - last_s < quiet_s:
            for descriptor, _ in self._poll.wait(0.05):
                self._receive(self._by_descriptor[descriptor])
                last_s = time.monotonic()

    # -- judging

    def judge(self, lanes: Sequence[Sequence[int]], first: int | None) -> tuple[list[float], list[str]]:
        """The latencies at the samples, and all that is wrong: with counts at any, with contents at the samples.

        `lanes` are the times that were sent, of each publisher on its own; `first` is the first offset, if there are.
        """
        latencies_ms: list[float] = []
        faults: list[str] = []
        publications = sum(map(len, lanes))
        wrong = [s.count for s in self._by_descriptor.values() if s.count != publications]
        if wrong:
            faults.append(f"{len(wrong)} clients got between {min(wrong)} and {max(wrong)} instead of {publications}")
        common: list[int] | None = None
        for subscriber in self._by_descriptor.values():
            if subscriber.chunks is None:
                continue
            latencies_ms += _latencies_ms(subscriber.chunks)
            try:
                messages = list(self._dialect.messages(b"".join(data for _, data in subscriber.chunks)))
                offsets = [self._dialect.offset(message) for message in messages] if self._dialect.offset else []
            except (ValueError, IndexError) as error:
                faults.append(f"a client got what cannot be read: {error}")
                continue
            finally:
                subscriber.chunks = None
            got = [int(sent) for message in messages for sent in _SENT_AT.findall(message)]
            faults += order_faults(got, lanes)
            common = got if common is None else common
            if got != common:
                faults.append("two clients got them in different orders")
            placed = [offset for offset in offsets if offset is not None]
            if self._dialect.offset and first is not None and placed != list(range(first, first + publications)):
                faults.append(f"a client got {len(placed)} offsets, not {publications} from {first} on in order")
        return latencies_ms, list(dict.fromkeys(faults))

    # -- closing

    def close(self) -> None:
        """Close all connections: the server sees their end at once."""
        for subscriber in self._by_descriptor.values():
            subscriber.socket.close()
        self._by_descriptor.clear()
        self._poll.close()
        self._poll = _Poll()

    def watch(self) -> _Poll:
        return self._poll


def order_faults(got: Sequence[int], lanes: Sequence[Sequence[int]]) -> Iterator[str]:
    """What is wrong with the publications that a client has got, as sentences: lost, repeated, out of order, foreign.

    `lanes` are the times that were sent, of each publisher on its own, each rising.
    """
    lane_of = {sent: number for number, lane in enumerate(lanes) for sent in lane}
    distinct = set(got)
    if missing := len(lane_of.keys() - distinct):
        yield f"a client lost {missing} of {len(lane_of)}"
    if again := len(got) - len(distinct):
        yield f"a client got {again} again"
    if distinct - lane_of.keys():
        yield "a client got what nobody has sent"
    latest: dict[int, int] = {}
    overtaken = 0
    for sent in got:
        lane = lane_of.get(sent, -1)
        overtaken += sent < latest.get(lane, 0)
        latest[lane] = max(sent, latest.get(lane, 0))
    if overtaken:
        yield f"a client got {overtaken} behind a later one of the same publisher"


def _latencies_ms(chunks: list[tuple[int, bytes]]) -> Iterator[float]:
    # A mark cut in two between chunks is finished, and so arrives, with the second one.
    rest = b""
    for came_ns, data in chunks:
        data = rest + data
        end = 0
        for match in _SENT_AT.finditer(data):
            yield (came_ns - int(match.group(1))) / 1e6
            end = match.end()
        rest = data[end:][-20:]


class Publisher:
    """Connections that each have one publish in flight."""

    def __init__(
        self, address: tuple[str, int], host: str, publishing: Publishing, tokens: Sequence[str], size: int
    ) -> None:
        self._address = address
        self._publishing = publishing
        self._pad = b"x" * (size - 22)  # beside two quotes, `@` and 19 digits
        length = size - 2 + len(publishing.before) + len(publishing.after)
        heads = [publishing.head.format(host=host, token=token, length=length).encode() for token in tokens]
        self._closed = list(enumerate(heads))
        self._sockets: dict[int, tuple[socket.socket, int, bytes]] = {}
        self._answers: dict[int, bytearray] = {}
        self._requests: dict[int, int] = {}
        self.idle: list[int] = []
        self.offsets: list[int] = []
        self.lanes: list[list[int]] = [[] for _ in tokens]
        """When each publication was sent, of each connection on its own."""
        self.sent = 0
        self.answered = 0

    def open(self, poll: _Poll) -> None:
        """Open what is not open."""
        while self._closed:
            self._dial(*self._closed.pop(), poll)

    def _dial(self, lane: int, head: bytes, poll: _Poll) -> None:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        descriptor = connection.fileno()
        self._sockets[descriptor] = (connection, lane, head)
        self._requests[descriptor] = 0
        self.idle.append(descriptor)
        poll.add(descriptor)

    def owns(self, descriptor: int) -> bool:
        return descriptor in self._sockets

    def publish(self, stamp_ns: int) -> None:
        """Publish on an idle connection, with that time in it."""
        descriptor = self.idle.pop()
        connection, lane, head = self._sockets[descriptor]
        self._answers[descriptor] = bytearray()
        self._requests[descriptor] += 1
        how = self._publishing
        self.lanes[lane].append(stamp_ns)
        connection.sendall(b"%b%b@%019d%b%b" % (head, how.before, stamp_ns, self._pad, how.after))
        self.sent += 1

    def receive(self, descriptor: int, poll: _Poll) -> None:
        """Take what has come; with a whole answer, the connection is idle again. Raises Failed."""
        connection, _, _ = self._sockets[descriptor]
        data = connection.recv(65_536)
        if not data and descriptor not in self._answers:  # idle for longer than the server keeps a connection
            self.idle.remove(descriptor)
            self._hang_up(descriptor, poll)
            return
        if not data or descriptor not in self._answers:
            raise Failed("a publish was not answered, or an answer came that nobody asked for")
        answer = self._answers[descriptor]
        answer += data
        head_end = answer.find(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        if head_end < 0:
            return
        if not answer.startswith(b"HTTP/1.1 2") or length is None:
            raise Failed(f"a publish was refused: {answer[:300].decode('latin-1')!r}")
        if len(answer) < head_end + 4 + int(length.group(1)):
            return
        self.answered += 1
        if self._publishing.offset is not None:
            self.offsets.append(self._publishing.offset(bytes(answer[head_end + 4 :])))
        del self._answers[descriptor]
        if self._requests[descriptor] < REQUESTS_PER_CONNECTION:
            self.idle.append(descriptor)
        else:
            self._hang_up(descriptor, poll)

    def _hang_up(self, descriptor: int, poll: _Poll) -> None:
        connection, lane, head = self._sockets.pop(descriptor)
        poll.remove(descriptor)
        connection.close()
        self._closed.append((lane, head))

    @property
    def in_flight(self) -> int:
        return len(self._answers)

    def close(self, poll: _Poll) -> None:
        for descriptor, (connection, _, _) in self._sockets.items():
            poll.remove(descriptor)
            connection.close()
        self._sockets.clear()


def deliver(
    audience: Audience,
    publisher: Publisher,
    *,
    seconds: float,
    awaits_delivery: bool = False,
    rate_hz: float | None = None,
) -> Outcome:
    """Publish for so long, then wait until everybody has everything.

    A publish follows on its connection as soon as the former was answered; with `awaits_delivery` only after everybody
    has got the former; with `rate_hz` when its time has come, on whichever connection waits for no answer, and its
    latency counts from that time, even if it could only be sent later; what is due is sent behind `seconds` as well.
    Raises Failed when nothing moves any more.
    """
    audience.sample(SAMPLES if rate_hz is None else SAMPLES_OF_A_RATE)
    outcome = Outcome()
    started_s = time.monotonic()
    publisher.open(audience.watch())
    pace = Pace(time.monotonic_ns(), rate_hz, seconds) if rate_hz is not None else None
    try:
        delivered = _publish(audience, publisher, started_s + seconds, awaits_delivery, pace)
    finally:
        publisher.close(audience.watch())
    outcome.seconds = time.monotonic() - started_s
    outcome.publications, outcome.deliveries, outcome.expected = (
        publisher.sent,
        delivered,
        publisher.sent * len(audience),
    )
    if pace is not None and pace.left:
        outcome.faults.append(f"{pace.left} publishes that were due could not be sent")
    if publisher.answered != publisher.sent:
        outcome.faults.append(f"{publisher.sent - publisher.answered} publishes were not answered")
    first = min(publisher.offsets, default=None)
    if first is not None and sorted(publisher.offsets) != list(range(first, first + publisher.sent)):
        outcome.faults.append("the answered offsets are not consecutive")
    latencies_ms, faults = audience.judge(publisher.lanes, first)
    outcome.latencies_ms = sorted(latencies_ms)
    outcome.faults += faults
    return outcome


class Pace:
    """When the next publication is due: `rate_hz` a second from `started_ns` on, for so many seconds, however late the
    former was sent.
    """

    def __init__(self, started_ns: int, rate_hz: float, seconds: float) -> None:
        self._interval_ns = round(1e9 / rate_hz)
        self.due_ns = started_ns
        self.left = round(seconds * rate_hz)
        """How many are still to be sent."""

    def wait_s(self, now_ns: int) -> float:
        """How long it is until one is due; 0 when one is."""
        return max(0, self.due_ns - now_ns) / 1e9

    def advance(self) -> int:
        """When the one that was due was due; the next one is an interval later."""
        due_ns = self.due_ns
        self.due_ns += self._interval_ns
        self.left -= 1
        return due_ns


def _publish(audience: Audience, publisher: Publisher, until_s: float, awaits_delivery: bool, pace: Pace | None) -> int:
    """Publish until then, and wait until everything was answered and delivered; the number of deliveries."""
    poll = audience.watch()
    count = len(audience)
    last_s = time.monotonic()
    delivered = 0
    while True:
        now_s = time.monotonic()
        wait_s = 0.5
        if (now_s < until_s) if pace is None else (pace.left and now_s < until_s + STALLED_S):
            publisher.open(poll)
            while publisher.idle and not (awaits_delivery and delivered < publisher.sent * count):
                if pace is None:
                    publisher.publish(time.monotonic_ns())
                elif not pace.left or (wait_s := pace.wait_s(time.monotonic_ns())):
                    break
                else:
                    publisher.publish(pace.advance())
        elif not publisher.in_flight and delivered >= publisher.sent * count:
            return delivered
        ready = poll.wait(max(0.0, wait_s - POLL_STEP_S))
        if ready:
            last_s = now_s
        elif now_s - last_s > STALLED_S:
            return delivered
        for descriptor, _ in ready:
            if publisher.owns(descriptor):
                publisher.receive(descriptor, poll)
            else:
                delivered += audience.receive(descriptor)
