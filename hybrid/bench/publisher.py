"""The publishers of the load: one publish in flight on each HTTP connection, or several on a WebSocket session."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import msgspec

from hybrid.bench import wires
from hybrid.bench.connection import Connection
from hybrid.bench.http import Unreadable, read_answer, read_head
from hybrid.bench.reading import FrameReader
from hybrid.client.ending import Ending, network, of_close, of_http, of_number
from hybrid.errors import BY_NUMBER
from hybrid.protocol.commands import WirePosition
from hybrid.protocol.pushes import Push

if TYPE_CHECKING:
    from hybrid.bench.load import Load

_BACKOFF_S: Final = 0.25
_BACKOFF_MAX_S: Final = 5.0
_TRIES_MAX: Final = 200
_REQUESTS_MAX: Final = 900
"""On one connection: servers close it after 1,000 (Hypercorn, nginx), which a publish on its way could meet."""
_position: Final = msgspec.json.Decoder(WirePosition)


class Publisher(Connection):
    """What both kinds have in common: coming back, and counting what was not answered well."""

    __slots__ = ("_ending", "_failures", "_rest", "_token", "has_failed", "is_ready")

    def __init__(self, load: Load, token: str) -> None:
        super().__init__(load)
        self.is_ready = False
        self.has_failed = False
        self._token = token
        self._rest = b""
        self._failures = 0
        self._ending: Ending | None = None

    def publish(self, number: int, data: bytes) -> None:
        """Publish JSON to the channel of this number; once for each time that it stands in `load.free`."""
        raise NotImplementedError

    @property
    def in_flight(self) -> int:
        """Publishes without an answer."""
        raise NotImplementedError

    def _lose(self) -> int:
        """Forget what is in flight, and say how much that was."""
        raise NotImplementedError

    def _ended(self, reason: str) -> None:
        ending, self._ending = self._ending, None
        if ending is None:
            ending = network(reason)
        words = _words(ending, reason)
        self._rest = b""
        lost = self._lose()
        if lost:
            self.load.refused[f"not answered: {words}"] += lost
        elif not self.is_ready:
            self.load.errors[f"publisher: {words}"] += 1
        self.load.publisher_lost(self)
        self.is_ready = False
        self._failures += 1
        if not ending.comes_back or ending.is_about_credentials or self._failures > _TRIES_MAX:
            self.has_failed = True
            return
        delay_s = ending.delay_s
        if delay_s is None:
            delay_s = random.uniform(0, min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** min(self._failures, 8)))
        self.load.after(delay_s, self.dial)

    def _refused(self, ending: Ending) -> None:
        """A publish was answered with a refusal: it is counted, and its like come later, or not at all."""
        self.load.refused[_words(ending, "refused")] += 1
        if ending.comes_back:
            self.load.after(ending.delay_s or 0.1, self._go_on)
        else:
            self.has_failed = True

    def _go_on(self) -> None:
        if self.is_ready and self.sock is not None:
            self.load.free.append(self)


class HttpPublisher(Publisher):
    """A keep-alive connection. It is renewed before the server ends it, and quietly where it has."""

    __slots__ = ("_channel", "_heads", "_requests", "_sent_ns")

    def __init__(self, load: Load, token: str) -> None:
        super().__init__(load, token)
        self._heads: dict[int, bytes] = {}
        self._requests = 0
        self._sent_ns = 0
        self._channel = 0

    def publish(self, number: int, data: bytes) -> None:
        """See `Publisher`."""
        head = self._heads.get(number)
        if head is None:
            head = self.load.wires.publish(self._token, self.load.channel(number), len(data))
            if len(self._heads) < 1_000:
                self._heads[number] = head
        self._requests += 1
        self._channel = number
        self._sent_ns = self.load.now_ns()
        self.send(head + data)

    @property
    def in_flight(self) -> int:
        """See `Publisher`."""
        return 1 if self._sent_ns else 0

    def _lose(self) -> int:
        lost, self._sent_ns = self.in_flight, 0
        return lost

    def _connected(self) -> None:
        self.settled()
        self._rest = b""
        self._requests = 0
        if not self.is_ready:
            self.is_ready = True
            self.load.publisher_ready(self)
        self.load.free.append(self)

    def _readable(self) -> None:
        while self.sock is not None:
            if not self._sent_ns:
                self._take_end()
                return
            data = self._receive()
            if data is None:
                return
            self._rest += data
            answer = read_answer(self._rest)
            if answer is None:
                continue
            self._rest = b""
            sent_ns, self._sent_ns = self._sent_ns, 0
            if answer.head.status == 200:
                self._failures = 0
                try:
                    position = _position.decode(answer.body)
                except msgspec.MsgspecError:
                    raise Unreadable("the answer of a publish cannot be read") from None
                self.load.publish_answered(self._channel, position, sent_ns)
                self._next(is_last=answer.head.is_last)
                return
            ending = of_http(answer.head.status, answer.head.headers, answer.body)
            if answer.head.is_last and ending.comes_back:
                self.load.refused[_words(ending, "refused")] += 1
                self.hang_up()
                self.load.after(ending.delay_s or 0.1, self.dial)
            else:
                self._refused(ending)
            return

    def _next(self, *, is_last: bool) -> None:
        if is_last or self._requests >= _REQUESTS_MAX:
            self.load.renewed += 1
            self.dial()
        else:
            self.load.free.append(self)

    def _take_end(self) -> None:
        """The server has closed an idle connection, as it may: another one is opened at once."""
        assert self.sock is not None
        try:
            data = self.sock.recv(1)
        except OSError:
            data = b""
        if data:
            raise Unreadable("an answer came that nobody asked for")
        self.load.publisher_lost(self)
        self.load.renewed += 1
        self.load.after(0.05, self.dial)
        self.hang_up()


class WebSocketPublisher(Publisher):
    """A session without channels. It may have several publishes in flight; their ids tell the answers apart."""

    __slots__ = ("_flying", "_has_head", "_heartbeat_s", "_ids", "_reader", "_slots")

    def __init__(self, load: Load, token: str, slots: int) -> None:
        super().__init__(load, token)
        self._slots = slots
        self._flying: dict[int, tuple[int, int]] = {}
        self._ids = 0
        self._has_head = False
        self._reader = FrameReader()
        self._heartbeat_s = 20.0

    def publish(self, number: int, data: bytes) -> None:
        """See `Publisher`."""
        self._ids += 1
        self._flying[self._ids] = (number, self.load.now_ns())
        self.send(wires.publish_command(self._ids, self.load.channel(number), data))

    @property
    def in_flight(self) -> int:
        """See `Publisher`."""
        return len(self._flying)

    def _lose(self) -> int:
        lost = len(self._flying)
        self._flying.clear()
        return lost

    def _connected(self) -> None:
        self._has_head = False
        self._rest = b""
        self.send(self.load.wires.upgrade(self._token))

    def _readable(self) -> None:
        while self.sock is not None:
            data = self._receive()
            if data is None:
                return
            data = self._rest + data
            if not self._has_head:
                head = read_head(data)
                if head is None or (head.status != 101 and read_answer(data) is None):
                    self._rest = data
                    return
                if head.status != 101:
                    answer = read_answer(data)
                    assert answer is not None
                    self._ending = of_http(head.status, head.headers, answer.body)
                    self.break_off(f"HTTP {head.status}")
                    return
                self._has_head = True
                data = data[head.size :]
                self.send(wires.frame(wires.attach("", 1, 0, ())))
            self._take(data)
            if not self.has_more:
                return

    def _take(self, data: bytes) -> None:
        piece = self._reader.read(data, b"")
        self._reader.pieces.clear()
        self._rest = piece.rest
        for step in piece.steps:
            if isinstance(step, Push):
                self._take_push(step)
            if self.sock is None:
                return
        for payload in piece.pings:
            self.send(wires.frame(payload, 10))
        if piece.closed is not None:
            self._ending = self._ending or of_close(*piece.closed)
            self.break_off(f"closed with {piece.closed[0]}")

    def _take_push(self, push: Push) -> None:
        if push.reply is not None:
            flown = self._flying.pop(push.reply.id, None)
            if flown is None:
                raise Unreadable("an answer came that nobody asked for")
            self._failures = 0
            if push.reply.position is not None:
                self.load.publish_answered(flown[0], push.reply.position, flown[1])
                self.load.free.append(self)
            else:
                error = push.reply.error
                number, delay_s = (error.number, error.retry_after_s) if error is not None else (4500, None)
                self._refused(of_number(number, delay_s=delay_s))
        elif push.attached is not None:
            self._heartbeat_s = push.attached.heartbeat_interval_s
        elif push.subscribed is not None:
            self.settled()
            if not self.is_ready:
                self.is_ready = True
                self.load.publisher_ready(self)
            self.load.free.extend([self] * self._slots)
            self._keep_alive(self._deadline)
        elif push.disconnect is not None:
            told = push.disconnect
            delay_s = told.delay_ms / 1_000 if told.delay_ms else None
            self._ending = of_number(told.code, told.reason, delay_s, told.reconnect)
            self.break_off("told to leave")

    def _keep_alive(self, deadline: int) -> None:
        if deadline == self._deadline and self.sock is not None:
            self.load.after(self._heartbeat_s, lambda: self._beat(deadline))

    def _beat(self, deadline: int) -> None:
        if deadline == self._deadline and self.sock is not None:
            self.send(wires.HEARTBEAT)
            self._keep_alive(deadline)


def _words(ending: Ending, reason: str) -> str:
    if ending.is_network:
        return ending.detail or reason
    row = BY_NUMBER.get(ending.number)
    return f"{ending.number} {row.name}" if row is not None else f"{ending.number} {ending.detail}".strip()
