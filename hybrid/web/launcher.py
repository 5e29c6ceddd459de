"""Serves the application with Hypercorn on a socket of our own, and ends in bounded time.

Hypercorn cannot be told to stop accepting, and on asyncio 3.12.1 and later it never returns while one connection is
open. So everything that ends happens inside its shutdown trigger: the application drains, and whatever is left at the
deadline is aborted, streams that were handed off and connections that Hypercorn holds alike.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from hybrid.errors import SettingsError
from hybrid.limits import Limits
from hybrid.links.asgi import Receive, Scope, Send
from hybrid.links.hypercorn import find_transport, guard_inbox, mend, release

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)
_BACKLOG: Final = 1_024  # connections waiting to be accepted: a reconnect storm arrives within one loop turn
_USER_TIMEOUT_MS: Final = 30_000  # unacknowledged data; a vanished peer otherwise holds its buffers for 15 minutes
_KEEP_ALIVE_S: Final = 20.0  # also bounds the time for a request's head
_TLS_HANDSHAKE_S: Final = 10.0
_HEAD_MAX_BYTES: Final = 16_384  # an 8 KB token, a 2 KB cursor and what browsers add
_REAP_INTERVAL_S: Final = 0.2
_GRACEFUL_MIN_S: Final = 0.5
_GC_THRESHOLDS: Final = (20_000, 20, 50)  # cycles are rare here; the default (700, 10, 10) is made for short programs
_KEPT_MIN: Final = 64


class _Config(Config):
    """Hypercorn's settings, with a listening socket that is already bound."""

    listener: socket.socket

    def create_sockets(self) -> Sockets:
        """Called by Hypercorn once the application has started; from then on the socket is its."""
        if self.ssl_enabled:
            return Sockets([self.listener], [], [])
        return Sockets([], [self.listener], [])


class _Connections:
    """The transports of all connections that ever carried a request, for the deadline of the shutdown."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        # uvloop's TLS transports have no weak references: they are kept, and the closed ones sorted out in time.
        self._kept: set[asyncio.WriteTransport] = set()
        self._sort_out_at = _KEPT_MIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = find_transport(send)
        if transport is not None:
            self._remember(transport)
        del transport  # this frame lives as long as the request
        guard_inbox(send)
        try:
            await self._app(scope, receive, send)
        finally:
            await release(send)

    def abort_all(self) -> int:
        """Abort every connection that is still open, and return how many there were."""
        transports = [*self._transports, *self._kept]
        for transport in transports:
            transport.abort()
        self._transports.clear()
        self._kept.clear()
        return len(transports)

    def _remember(self, transport: asyncio.WriteTransport) -> None:
        try:
            self._transports.add(transport)
        except TypeError:
            self._kept.add(transport)
            if len(self._kept) >= self._sort_out_at:
                self._kept = {kept for kept in self._kept if not kept.is_closing()}
                self._sort_out_at = max(_KEPT_MIN, len(self._kept) * 5 // 4)  # a quarter at most is closed


async def serve(
    app: AsgiApp,
    *,
    host: str,
    port: int,
    limits: Limits,
    shutdown_event: asyncio.Event,
    on_started: Callable[[int], None] | None = None,
    drain: Callable[[float], Awaitable[None]] | None = None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    send_buffer_bytes: int | None = 65_536,
) -> None:
    """Serve until `shutdown_event` is set, then drain and return.

    `port` 0 takes any free one; `on_started` is called with the bound port when connections are accepted. `drain` is
    given `shutdown_grace_s` and cancelled when that is over; its errors are logged. TLS needs both files.
    `send_buffer_bytes` is what the kernel may hold for a client that does not read; None leaves it to the system.
    Raises SettingsError, one line, if the address cannot be had. Whatever is open at the deadline is aborted, also
    when this call is cancelled.
    """
    mend()
    loop = asyncio.get_running_loop()
    connections = _Connections(app)
    config = _Config()
    config.listener = _bind(host, port, send_buffer_bytes)
    config.backlog = _BACKLOG
    config.include_server_header = False
    config.accesslog = None  # Hypercorn's prints decoded paths, in which line breaks forge entries
    config.errorlog = logging.getLogger("hybrid.http")
    config.h11_max_incomplete_size = _HEAD_MAX_BYTES
    config.keep_alive_timeout = _KEEP_ALIVE_S
    config.ssl_handshake_timeout = _TLS_HANDSHAKE_S
    config.websocket_max_message_size = max(limits.command_max_bytes, limits.attach_max_bytes)
    config.certfile, config.keyfile = certificate_file, key_file
    bound_port = config.listener.getsockname()[1]
    reaper: asyncio.Task[None] | None = None

    async def shutdown_trigger() -> None:
        nonlocal reaper
        deadline_s = loop.time()  # that of a cancellation: Hypercorn waits for its connections then too
        try:
            if on_started is not None:
                on_started(bound_port)
            await shutdown_event.wait()
            deadline_s = loop.time() + limits.shutdown_grace_s
        finally:
            reaper = loop.create_task(_reap(connections, deadline_s))
        if drain is not None:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await drain(limits.shutdown_grace_s)
            except TimeoutError:
                _log.warning("draining took longer than %g s", limits.shutdown_grace_s)
            except Exception:
                _log.exception("draining failed")
        config.graceful_timeout = max(deadline_s - loop.time(), _GRACEFUL_MIN_S)

    try:
        await hypercorn_serve(connections, config, shutdown_trigger=shutdown_trigger, mode="asgi")  # type: ignore[arg-type]
    finally:
        if reaper is not None:
            reaper.cancel()
        config.listener.close()
        if connections.abort_all():
            await asyncio.sleep(0)  # let the links tell their owners


async def _reap(connections: _Connections, deadline_s: float) -> None:
    """Abort every connection at the deadline, and those that were accepted behind it."""
    await asyncio.sleep(deadline_s - asyncio.get_running_loop().time())
    while True:
        count = connections.abort_all()
        if count:
            _log.warning("aborted %d connections that were still open at the end of the grace", count)
        await asyncio.sleep(_REAP_INTERVAL_S)


def _bind(host: str, port: int, send_buffer_bytes: int | None) -> socket.socket:
    bare_host = host.removeprefix("[").removesuffix("]")
    if not 0 <= port < 65_536:  # getaddrinfo takes it modulo 65536
        raise SettingsError(detail=f"Cannot use the address {host}:{port}: ports are 0 to 65535.")
    try:
        found = socket.getaddrinfo(bare_host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name often has both; IPv4 is the one that everything on the machine can reach.
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SettingsError(detail=f"Cannot use the address {host}:{port}: {_plain(error)}.") from error
    try:
        if os.name == "posix":  # on Windows the option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bare_host == "::" else 1)
        # Accepted sockets inherit the following.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        if send_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listener.bind(address)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        raise SettingsError(detail=f"Cannot listen on {host}:{port}: {_plain(error)}.") from error
    return listener


def _plain(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".")


def run(
    main_coroutine_function: Callable[[], Coroutine[Any, Any, _Result]],
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
) -> _Result:
    """Run a coroutine function to its end on the loop asked for, and return its result.

    "auto" takes uvloop where it is installed. Raises SettingsError if "uvloop" is asked for and is not.
    """
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if loop == "uvloop":
                raise SettingsError(detail="The loop uvloop is not installed.") from error
        else:
            loop_factory = uvloop.new_event_loop
    # A server's clients live long: looking through all of them again after every few hundred new objects made up a
    # fifth of the cost of a connection.
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main_coroutine_function())


def install_signal_handlers(event: asyncio.Event) -> None:
    """Set `event` at the first SIGINT or SIGTERM; end the process at once at the second. Call it inside the loop."""
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        if event.is_set():
            os._exit(128 + number)
        event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):  # not the main thread: somebody else's signals
            try:
                loop.add_signal_handler(number, handle, number)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda received, _: loop.call_soon_threadsafe(handle, received))
