"""One client of the load: it attaches, takes what comes, and comes back where it was, on one transport."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from hybrid.bench import wires
from hybrid.bench.connection import RECEIVE_BYTES, Connection
from hybrid.bench.http import Answer, Head, Unreadable, read_answer, read_head
from hybrid.bench.plan import Transport
from hybrid.bench.poll import READ, WRITE
from hybrid.bench.reading import Piece, Run
from hybrid.bench.tracking import Track
from hybrid.client.ending import Ending, network, of_close, of_http, of_number
from hybrid.errors import BY_NUMBER
from hybrid.protocol.pushes import Push, Subscribed

if TYPE_CHECKING:
    from hybrid.bench.load import Load

_BACKOFF_S: Final = 0.25
_BACKOFF_MAX_S: Final = 5.0
_RUDE_S: Final = 0.05
_TRIES_MAX: Final = 200
_FIRST_TRIES_MAX: Final = 10
"""Of a client that never got in, unless it was told when to come."""
_PASSING: Final = frozenset({3503, 3504})
_SILENT_INTERVALS: Final = 2.5
_POLL_MAX_S: Final = wires.POLL_WAIT_S + 15.0


class Subscriber(Connection):
    """The client's state is what the protocol says that it owns: its channels and positions, and a session's name."""

    __slots__ = (
        "_attempt",
        "_ending",
        "_failures",
        "_head",
        "_heard_ns",
        "_heartbeat_s",
        "_last_seq",
        "_life",
        "_partial",
        "_reader",
        "_rest",
        "_sealed",
        "_session",
        "_token",
        "_track",
        "_tracks",
        "has_failed",
        "is_ready",
        "since_ns",
        "transport",
        "was_ready",
    )

    def __init__(self, load: Load, transport: Transport, channels: list[str], token: str) -> None:
        super().__init__(load)
        self.transport = transport
        self.is_ready = False  # subscribed: whatever is published from then on has to come
        self.was_ready = False
        self.has_failed = False
        self.since_ns = 0
        self._tracks = {name: Track(name) for name in channels}
        self._track = self._tracks[channels[0]]
        self._token = token
        self._session = ""
        self._attempt = 0
        self._last_seq = 0
        self._sealed = ""
        self._rest = b""
        self._partial = b""
        self._head: Head | None = None
        self._ending: Ending | None = None
        self._failures = 0
        self._heard_ns = 0
        self._heartbeat_s = 20.0
        self._life = 0
        self._reader = load.reader(transport, is_chunked=True)

    def is_complete(self, heads: dict[str, tuple[str, int, int]]) -> bool:
        """Whether everything has come up to these heads, as far as they are of its channels."""
        for name, track in self._tracks.items():
            head = heads.get(name)
            if head is not None and (track.epoch != head[0] or track.next <= head[1]):
                return False
        return True

    def where(self, heads: dict[str, tuple[str, int, int]]) -> str:
        """How far it has come, where that is not far enough."""
        for name, track in self._tracks.items():
            head = heads.get(name)
            if head is not None and (track.epoch != head[0] or track.next <= head[1]):
                state = "connected" if self.is_ready else "not connected"
                return f"{name}: a {self.transport} client ({state}) is at {track.next - 1} of {head[1]}"
        return ""

    # -- the request

    def _connected(self) -> None:
        self._head = None
        self._ending = None
        self._rest = self._partial = b""
        tracks = list(self._tracks.values())
        make = self.load.wires
        if self.transport == "websocket":
            self.send(make.upgrade(self._token))
        elif self.transport == "plain-sse":
            self.send(make.plain_stream(self._token, tracks))
        elif self.transport == "sse":
            self.send(make.stream(self._token, self._attach()))
        elif self.is_ready:  # the connection was renewed between two polls, and is there
            self.settled()
            self._poll()
        else:
            self.send(make.post(self._token, self._attach()))

    def _attach(self) -> bytes:
        self._attempt += 1
        return wires.attach(self._session, self._attempt, self._last_seq, self._tracks.values())

    def _poll(self) -> None:
        poll = wires.poll(self._session, self._attempt, self._last_seq, self._tracks.values(), self._sealed)
        self.send(self.load.wires.post(self._token, poll))

    # -- what comes

    def _readable(self) -> None:
        while self.sock is not None:
            data = self._receive()
            if data is None:
                return
            self._heard_ns = self.load.now_ns()
            if self._rest:
                data = self._rest + data
            if self.transport == "longpoll":
                self._take_answers(data)
            elif self._head is None:
                self._take_head(data)
            else:
                self._take(data)
            if not self.has_more:
                return

    def _streaming(self, mask: int) -> None:
        """The hot path: a stream that is subscribed can be read. What is not as usual goes the way of `_readable`."""
        if mask != READ:
            self._event(mask)
            return
        try:
            data = self.sock.recv(RECEIVE_BYTES)  # type: ignore[union-attr]
        except OSError:
            self._event(mask)
            return
        if self._rest or self._partial or not data:
            self._unusual(data)
            return
        piece = self._reader.pieces.get(data)
        if piece is None or piece.run is None or piece.rest or piece.partial:
            self._unusual(data)
            return
        now_ns = self._heard_ns = monotonic_ns()
        piece.arrived_ns.append(now_ns)
        run = piece.run
        track = self._track if run.channel is None else self._tracks.get(run.channel)
        if track is not None and track.next == run.first and track.epoch == run.epoch:
            track.next = run.last + 1
            track.position = run
        else:
            self._guard(self._advance, run)

    def _unusual(self, data: bytes) -> None:
        if not data:
            self.break_off("closed by the peer")
            return
        self._heard_ns = monotonic_ns()
        self._guard(self._take, self._rest + data)

    def _guard(self, take: Callable[[Any], None], what: Any) -> None:
        try:
            take(what)
        except Unreadable as error:
            self.load.tally.unexpected += 1
            self.break_off(str(error))

    def _take(self, data: bytes) -> None:
        partial = self._partial
        reader = self._reader
        piece = reader.pieces.get((partial, data) if partial else data)
        if piece is None:
            piece = reader.read(data, partial)
        self._rest = piece.rest
        self._partial = piece.partial
        piece.arrived_ns.append(self._heard_ns)
        run = piece.run
        if run is not None:
            self._advance(run)
        elif piece.steps or piece.pings or piece.closed or piece.is_end:
            self._take_steps(piece)

    def _advance(self, run: Run) -> None:
        track = self._track if run.channel is None else self._tracks.get(run.channel)
        if track is None:
            raise Unreadable("a publication of a channel that nobody asked for came")
        if track.next == run.first and track.epoch == run.epoch:
            track.next = run.last + 1
            track.position = run
        else:
            track.receive_unexpected(run, self.load.tally)

    def _take_steps(self, piece: Piece) -> None:
        for step in piece.steps:
            if isinstance(step, Run):
                self._advance(step)
            else:
                self._take_push(step)
            if self.sock is None:
                return
        for payload in piece.pings:
            self.send(wires.frame(payload, 10))
        if self.sock is not None and piece.closed is not None:
            code, reason = piece.closed
            self._ending = self._ending or of_close(code, reason)
            self.break_off(f"closed with {code}")
        elif self.sock is not None and piece.is_end:
            self.break_off("the stream ended")

    def _take_push(self, push: Push) -> None:
        self._last_seq = max(self._last_seq, push.seq)
        if push.attached is not None:
            if self._session and not push.attached.is_resumed:
                self._last_seq = 0
            self._session = push.attached.session
            self._heartbeat_s = push.attached.heartbeat_interval_s
        elif push.subscribed is not None:
            self._sealed = push.subscribed.sealed
            for told in push.subscribed.channels:
                if not self._take_subscribed(told):
                    return
            self._subscribed()
        elif push.reset is not None:
            self._tracks[push.reset.channel].receive_reset(push.reset.position, self.load.tally)
            if self.transport == "plain-sse":
                self._subscribed()
        elif push.unsubscribed is not None:
            self._ending = of_number(push.unsubscribed.error, comes_back=False)
            self.break_off("unsubscribed")
        elif push.disconnect is not None:
            told_end = push.disconnect
            delay_s = told_end.delay_ms / 1_000 if told_end.delay_ms else None
            self._ending = of_number(told_end.code, told_end.reason, delay_s, told_end.reconnect)
            self.break_off("told to leave")

    def _take_subscribed(self, told: Subscribed) -> bool:
        track = self._tracks.get(told.channel) if told.channel else self._track
        if track is None or told.position is None:
            number = told.error or 4500
            self._ending = of_number(number, comes_back=number in _PASSING)
            self.break_off("not subscribed")
            return False
        track.receive_position(told.position, was_recovered=told.recovered, tally=self.load.tally)
        return True

    def _subscribed(self) -> None:
        if self.is_ready:
            return
        self.settled()
        self.is_ready = True
        self._failures = 0
        now_ns = self.load.now_ns()
        self._life += 1
        # Not all at once, though they came all at once.
        self._beat_later(self._life, self._heartbeat_s * random.uniform(0.5, 1.0))
        if self.transport != "longpoll" and self.load.tls is None and self.sock is not None:
            self._handler = self._streaming  # not for TLS, which may keep something that no poll tells of
            self.load.watch(self.sock.fileno(), READ | WRITE if self._outgoing else READ, self._handler)
        self.load.subscriber_ready(self, (now_ns - self.since_ns) // 1_000, (now_ns - self._tried_ns) // 1_000)

    # -- heads and answers

    def _take_head(self, data: bytes) -> None:
        head = read_head(data)
        if head is None:
            self._rest = data
            return
        if head.status != (101 if self.transport == "websocket" else 200):
            self._take_refusal(data)
            return
        self._head = head
        self._rest = b""
        self._reader = self.load.reader(self.transport, is_chunked=head.is_chunked)
        if self.transport == "websocket":
            self.send(wires.frame(self._attach()))
        if self.sock is not None and len(data) > head.size:
            self._take(data[head.size :])

    def _take_refusal(self, data: bytes) -> None:
        answer = read_answer(data)
        if answer is None:
            self._rest = data
            return
        self._refuse(answer)

    def _refuse(self, answer: Answer) -> None:
        self._ending = of_http(answer.head.status, answer.head.headers, answer.body)
        self.break_off(f"HTTP {answer.head.status}")

    def _take_answers(self, data: bytes) -> None:
        answer = read_answer(data)
        if answer is None:
            self._rest = data
            return
        self._rest = data[answer.size :]
        if self._rest:
            raise Unreadable("more came than was asked for")
        if answer.head.status != 200:
            self._refuse(answer)
            return
        self._take(answer.body)
        if self.sock is None:
            return
        if answer.head.is_last:
            self.load.renewed += 1
            self.dial()
        else:
            self._poll()

    # -- time

    def _beat_later(self, life: int, after_s: float) -> None:
        self.load.after(after_s, lambda: self._beat(life))

    def _beat(self, life: int) -> None:
        """A WebSocket tells that it lives; whoever hears nothing for too long comes back."""
        if life != self._life or not self.is_ready:
            return
        silence_max_s = _SILENT_INTERVALS * self._heartbeat_s if self.transport != "longpoll" else _POLL_MAX_S
        if self.load.now_ns() - self._heard_ns > silence_max_s * 1e9:
            self.break_off("nothing was heard")
            return
        if self.transport == "websocket":
            self.send(wires.heartbeat(self._last_seq))
        self._beat_later(life, self._heartbeat_s)

    # -- its end

    def cut(self, since_ns: int) -> None:
        """The storm: the connection is gone, and the client comes back at once."""
        if self.is_ready:
            self.is_ready = False
            self.load.subscriber_lost(self, None)
        self.hang_up()
        self.since_ns = since_ns

    def _ended(self, reason: str) -> None:
        ending, self._ending = self._ending, None
        if ending is None:
            ending = network(reason)
        self._rest = self._partial = b""
        words = _words(ending, reason)
        if self.is_ready:
            self.is_ready = False
            self.since_ns = self.load.now_ns()
            self.load.subscriber_lost(self, words)
        else:
            self.load.subscriber_refused(self, words)
        if ending.delay_s is None:
            self._failures += 1
        tries_max = _TRIES_MAX if self.was_ready else _FIRST_TRIES_MAX
        if not ending.comes_back or ending.is_about_credentials or self._failures > tries_max:
            self.has_failed = True
            self.load.subscriber_gave_up(self)
            return
        if ending.delay_s is not None and not self.load.order.plan.is_rude:
            self.load.delayed += 1
            delay_s = ending.delay_s
        elif self.load.order.plan.is_rude:
            delay_s = _RUDE_S
        else:
            delay_s = random.uniform(0, min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._failures, 8)))
        self.load.subscriber_waits(self, delay_s)


def _words(ending: Ending, reason: str) -> str:
    if ending.is_network:
        return ending.detail or reason
    row = BY_NUMBER.get(ending.number)
    return f"{ending.number} {row.name}" if row is not None else f"{ending.number} {ending.detail}".strip()
