"""A faulty cable: relays TCP between clients and a server, and breaks in the ways that real networks break.

A `Wire` listens on a port of its own; what connects there is carried to the server, byte for byte, in order, each byte
at most once. Both directions of each connection can be delayed, held (nothing passes and, once the small buffers are
full, nothing more is read: the sender feels it), or swallowed (the sender believes that all is well). Connections are
cut with FIN or RST, on both sides or on one only. A `Cabling` is one wire for each transport.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final

TRANSPORTS: Final = ("websocket", "sse", "longpoll")
_QUEUED_MAX: Final = 131_072  # bytes under way in one direction of one connection; more: the sender is not read
_BUFFER_BYTES: Final = 32_768  # of the kernel for the wire's own sockets, so that a held connection fills up soon
_REQUEST_LINE: Final = re.compile(rb"(?:GET|POST) (\S+) HTTP/1\.1\r\n")


class Direction:
    """One way of one connection. `passed` counts the bytes that came in, whatever became of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float) -> None:
        self.delay_s = delay_s
        self.rate_bytes_per_s = 0.0  # 0: as fast as it goes
        self.passed = 0
        self.is_held = False
        self.left: int | None = None
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None
        self.is_full = False
        self.has_ended = False
        self.ended: Callable[[], None] = lambda: None
        self._loop = loop
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._queued = 0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, data: bytes | None) -> None:
        """Bytes came in; None is the end."""
        if data:
            self.passed += len(data)
            if self.left is not None:
                data, self.left = data[: self.left], max(0, self.left - len(data))
                if not data:
                    return
            self._queued += len(data)
        # A delay that was shortened meanwhile must not let later bytes overtake earlier ones.
        self._due_s = max(self._due_s, self._loop.time() + self.delay_s)
        if data and self.rate_bytes_per_s:
            self._due_s += len(data) / self.rate_bytes_per_s
        self._queue.append((self._due_s, data))
        self.pump()

    def pump(self) -> None:
        """Pass on what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue and not self.is_held and not self.is_full and self.target is not None:
            due_s, data = self._queue[0]
            if due_s > self._loop.time():
                self._timer = self._loop.call_at(due_s, self.pump)
                break
            self._queue.popleft()
            if data is None:
                self.has_ended = True
                if not self.target.is_closing():
                    with suppress(OSError):  # it was reset, and nobody has been told yet
                        self.target.write_eof()
                self.ended()
                continue
            self._queued -= len(data)
            if not self.target.is_closing():
                self.target.write(data)
        if self.source is not None and not self.source.is_closing():
            if self.is_held or self._queued > _QUEUED_MAX:
                self.source.pause_reading()
            else:
                self.source.resume_reading()

    def hold(self) -> None:
        """Let nothing pass, and take nothing more in."""
        self.is_held = True
        self.pump()

    def release(self) -> None:
        """Let everything pass again, what was held first."""
        self.is_held = False
        self.pump()

    def swallow(self, after: int = 0) -> None:
        """Pass on `after` more bytes and drop everything behind them; the sender does not notice."""
        self.left = after

    def stop(self) -> None:
        """Nothing is passed on any more."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Side(asyncio.Protocol):
    """One socket of a connection: what it hears goes into `inward`, what `outward` brings goes out of it."""

    def __init__(self, connection: Connection, inward: Direction, outward: Direction, *, is_client: bool) -> None:
        self._connection = connection
        self._inward = inward
        self._outward = outward
        self._is_client = is_client
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        self.transport = self._inward.source = self._outward.target = transport
        self._connection.opened(transport)
        if self._connection.is_over:
            transport.abort()  # it was cut while it was being opened
        elif self._is_client:
            self._connection.dial()
        else:
            self._outward.pump()

    def data_received(self, data: bytes) -> None:
        if self._is_client:
            self._connection.client_said(data)
        elif not self._connection.server_said(data):
            return
        self._inward.feed(data)

    def eof_received(self) -> bool:
        self._inward.feed(None)
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        self._outward.is_full = True

    def resume_writing(self) -> None:
        self._outward.is_full = False
        self._outward.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.side_lost(self, has_failed=exc is not None)


class Connection:
    """One client's connection through the wire. `up` is from client to server, `down` back."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        loop = asyncio.get_running_loop()
        self.number = number
        self.paths: list[str] = []
        self.is_over = False
        self.up = Direction(loop, wire.up_delay_s)
        self.down = Direction(loop, wire.down_delay_s)
        self.client = _Side(self, self.up, self.down, is_client=True)
        self.server = _Side(self, self.down, self.up, is_client=False)
        self.up.ended = self.down.ended = self._half_ended
        self._loss: Loss | None = None

    def opened(self, transport: asyncio.Transport) -> None:
        """One of its sockets is there."""
        self._wire.transports.add(transport)

    def dial(self) -> None:
        """Go on to the server."""
        self._wire.spawn(self._dial())

    async def _dial(self) -> None:
        end = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(end, ("127.0.0.1", self._wire.next_port()))
            await loop.create_connection(lambda: self.server, sock=end)
        except OSError:
            end.close()
            self.cut()
        except BaseException:
            end.close()
            raise

    def client_said(self, data: bytes) -> None:
        """Look at what goes up: HTTP requests tell their path, WebSockets after their handshake tell nothing."""
        paths = [path.decode() for path in _REQUEST_LINE.findall(data)]
        self.paths += paths
        self._wire.has_changed()
        if self._loss is None:
            for loss in self._wire.losses:
                if not loss.connection and any(map(loss.is_for, paths or [""])):
                    loss.connection = self
                    self._loss = loss
                    break

    def server_said(self, data: bytes) -> bool:
        """False when what goes down is lost, and the connection with it."""
        if self._loss is None or not data:
            return True
        self._wire.losses.remove(self._loss)
        self._loss.has_happened.set()
        self.cut()
        return False

    def cut(self, *, rst: bool = True, client: bool = True, server: bool = True) -> None:
        """End it at once, on both sides or on one only; the other then believes that it is still there."""
        if client and server:
            self.is_over = True
            self._wire.forget(self)
        for side, is_meant in ((self.client, client), (self.server, server)):
            if not is_meant:
                continue
            side._inward.stop()
            transport = side.transport
            if transport is None or transport.is_closing():
                continue
            if rst:
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()

    def _half_ended(self) -> None:
        """One end has said all, and it was passed on; when both have, it is over."""
        if self.up.has_ended and self.down.has_ended:
            self.cut(rst=False)

    def side_lost(self, side: _Side, *, has_failed: bool) -> None:
        """One socket is gone. When it failed, so does the other."""
        if side.transport is not None:
            self._wire.transports.discard(side.transport)
        if has_failed and not self.is_over:
            self.cut()

    def hold(self) -> None:
        """Hold both directions."""
        self.up.hold()
        self.down.hold()

    def release(self) -> None:
        """Release both directions."""
        self.up.release()
        self.down.release()


class Loss:
    """An answer that gets lost: see `Wire.lose_answer`."""

    def __init__(self, is_for: Callable[[str], bool]) -> None:
        self.is_for = is_for
        self.connection: Connection | None = None
        self.has_happened = asyncio.Event()


class Wire:
    """Use it with `async with`; `address` is where clients go. Delays hold for connections opened from then on.

    With `other_ports` it is a balancer, too: connections go to each server in turn.
    """

    def __init__(self, port_of_server: int) -> None:
        self.port_of_server = port_of_server
        self.other_ports: list[int] = []
        self.up_delay_s = 0.0
        self.down_delay_s = 0.0
        self.is_refusing = False
        self.connections: list[Connection] = []
        self.opened = 0
        self.losses: list[Loss] = []
        self.transports: set[asyncio.Transport] = set()
        self._dialled = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in list(self.transports):
            transport.abort()  # also one that was closed politely and still has bytes for a peer that does not read
        await self._server.wait_closed()

    @property
    def address(self) -> tuple[str, int]:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    def cut(self, path: str = "", *, rst: bool = True) -> int:
        """Cut every connection whose last request was for a path that starts so; how many there were."""
        meant = self.on(path)
        for connection in meant:
            connection.cut(rst=rst)
        return len(meant)

    def on(self, path: str = "") -> list[Connection]:
        """The open connections whose last request was for a path that starts so."""
        return [c for c in self.connections if not path or (c.paths and c.paths[-1].startswith(path))]

    def lose_answer(self, path: str = "") -> Loss:
        """Of the next request for this path (any bytes, if empty) the answer is swallowed and the connection cut."""
        loss = Loss(lambda said: not path or said.startswith(path))
        self.losses.append(loss)
        return loss

    async def until_connected(self, path: str, count: int = 1) -> list[Connection]:
        """Wait for as many open connections on this path."""
        while len(found := self.on(path)) < count:
            self._changed.clear()
            await self._changed.wait()
        return found

    def next_port(self) -> int:
        """Where the next connection goes."""
        self._dialled += 1
        ports = [self.port_of_server, *self.other_ports]
        return ports[self._dialled % len(ports)]

    def has_changed(self) -> None:
        """Let those look again who wait for a connection."""
        self._changed.set()

    def spawn(self, coroutine: object) -> None:
        """Run it until the wire ends."""
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: Connection) -> None:
        """It is over."""
        if connection in self.connections:
            self.connections.remove(connection)

    def _accept(self) -> asyncio.Protocol:
        self.opened += 1
        connection = Connection(self, self.opened)
        if self.is_refusing:
            return _Refusal()
        self.connections.append(connection)
        return connection.client


class _Refusal(asyncio.Protocol):
    """Resets whoever connects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()  # type: ignore[attr-defined]


class Cabling:
    """One wire for each transport; `dial` is what `hybrid.client.Client` takes."""

    def __init__(self, port_of_server: int) -> None:
        self.wires = {transport: Wire(port_of_server) for transport in TRANSPORTS}

    async def __aenter__(self) -> Cabling:
        for wire in self.wires.values():
            await wire.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for wire in self.wires.values():
            await wire.__aexit__(kind, error, traceback)

    def __getitem__(self, transport: str) -> Wire:
        return self.wires[transport]

    def dial(self, transport: str) -> tuple[str, int]:
        return self.wires[transport].address

    def move_to_server(self, port: int) -> None:
        """From now on connections go to another server."""
        for wire in self.all():
            wire.port_of_server = port

    def all(self) -> Iterable[Wire]:
        return self.wires.values()
