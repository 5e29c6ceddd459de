"""Serves the application with Hypercorn on a socket of our own, and ends in bounded time.

On asyncio 3.12.1 and later Hypercorn never returns while one connection is open. So everything that ends happens inside
its shutdown trigger: the application drains, and whatever is left at the deadline is aborted, streams that were handed
off and connections that Hypercorn holds alike.

A server by itself accepts to the end, and says that it drains. One that is given its listening socket, as one of
several, leaves: it stops accepting first, so that whoever connects reaches another worker, then serves for a moment the
connections it has, whose requests may be on their way, and drains after that.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, TypeVar

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets

from hybrid.errors import SettingsError
from hybrid.limits import Limits
from hybrid.links.asgi import Receive, Scope, Send
from hybrid.links.front import Front, transport_of
from hybrid.links.hypercorn import close_after_answer, find_transport, guard_inbox, is_kept, mend, release
from hybrid.web.listener import BACKLOG, SEND_BUFFER_BYTES, bind

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)
_KEEP_ALIVE_S: Final = 20.0  # also bounds the time for a request's head
_TLS_HANDSHAKE_S: Final = 10.0
_HEAD_MAX_BYTES: Final = 16_384  # an 8 KB token, a 2 KB cursor and what browsers add
_REAP_INTERVAL_S: Final = 0.2
_LEAVING_TURNS: Final = 10  # or a process that stood still for so long would close connections with requests unread
_GRACEFUL_MIN_S: Final = 0.5
_LEAVING_S: Final = 1.0  # a distant client's first request follows its connection within that
_LEAVING_SHARE: Final = 0.3  # of the grace, at most
_GC_THRESHOLDS: Final = (20_000, 20, 50)  # cycles are rare here; the default (700, 10, 10) is made for short programs
_KEPT_MIN: Final = 64
_FILES_BESIDE: Final = 1_024  # descriptors for all that is no stream: requests in progress, Redis, files


class _Config(Config):
    """Hypercorn's settings, with a listening socket that is already bound."""

    listener: socket.socket

    def create_sockets(self) -> Sockets:
        """Called by Hypercorn once the application has started; from then on the socket is its."""
        if self.ssl_enabled:
            return Sockets([self.listener], [], [])
        return Sockets([], [self.listener], [])


class _Connections:
    """The transports of all connections that ever carried a request, for the deadline of the shutdown.

    Those that links have taken are not remembered where the application can abort its links: 180 bytes for each.
    """

    def __init__(self, app: AsgiApp, abort_links: Callable[[], int] | None) -> None:
        self._app = app
        self._abort_links = abort_links
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        # uvloop's TLS transports have no weak references: they are kept, and the closed ones sorted out in time.
        self._kept: set[asyncio.WriteTransport] = set()
        self._sort_out_at = _KEPT_MIN
        self._requests: set[Send] = set()
        self._is_leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_known = is_kept(send)  # its connection was remembered when it was taken over, and Hypercorn knows none of it
        if not is_known:
            if self._abort_links is None:
                self._remember(send)
            guard_inbox(send)
        self._requests.add(send)
        if self._is_leaving:
            close_after_answer(send)
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests.discard(send)
            if not is_known:
                await release(send)
                self._remember(send)

    def leave(self) -> None:
        """Let every connection end with the answer to its present or next request, and tell its client so."""
        self._is_leaving = True
        for send in self._requests:
            close_after_answer(send)

    def abort_all(self) -> int:
        """Abort every connection that is still open, and return how many there were."""
        for send in self._requests:
            self._remember(send)
        transports = [*self._transports, *self._kept]
        for transport in transports:
            with suppress(AttributeError):  # asyncio's, when it was closed with a full buffer that has left since
                transport.abort()
        self._transports.clear()
        self._kept.clear()
        return len(transports) + (self._abort_links() if self._abort_links is not None else 0)

    def _remember(self, send: Send) -> None:
        transport = transport_of(send) or find_transport(send)
        if transport is None:  # a link has taken it, or will not be found again
            return
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
    abort_links: Callable[[], int] | None = None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    send_buffer_bytes: int | None = SEND_BUFFER_BYTES,
    listener: socket.socket | None = None,
    streams_under: bytes | None = None,
) -> None:
    """Serve until `shutdown_event` is set, then drain and return.

    `port` 0 takes any free one; `on_started` is called with the bound port when connections are accepted. `drain` is
    given `shutdown_grace_s`, or what is left of it, and cancelled when that is over; its errors are logged.
    `abort_links` aborts the links that have taken their sockets, and tells how many; without it their sockets are
    remembered here, which costs memory. TLS needs both files. `send_buffer_bytes` is what the kernel may hold for a
    client that does not read; None leaves it to the system. `listener` is used in place of the address, and closed; a
    server that is given one is one of several, and leaves at the end, as the module's text says. Requests for streams
    whose path starts with `streams_under` are read in front of Hypercorn, see `links.front`; `app` must answer each of
    them with a link that takes its socket, or not with a stream. Raises SettingsError, one line, if the address cannot
    be had.
    Whatever is open at the deadline is aborted, also when this call is cancelled.
    """
    mend()
    raise_file_limit(limits.links_max + _FILES_BESIDE)
    loop = asyncio.get_running_loop()
    connections = _Connections(app, abort_links)
    config = _configured(limits)
    config.listener = listener if listener is not None else bind(host, port, send_buffer_bytes)
    config.certfile, config.keyfile = certificate_file, key_file
    bound_port = config.listener.getsockname()[1]
    front = None if streams_under is None else Front(connections, streams_under, request_max_bytes=_HEAD_MAX_BYTES)
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
        connections.leave()
        if front is not None:
            front.close()
        leaving_s = 0.0
        if listener is not None:
            leaving_s = min(_LEAVING_S, limits.shutdown_grace_s * _LEAVING_SHARE)
            # Accept no more first: what asyncio has accepted becomes a connection a turn of the loop later, and is
            # dropped when its server is closed by then, with an error that only asyncio's debug mode tells.
            with suppress(NotImplementedError):  # Windows' own loop, which has no readers
                loop.remove_reader(listener)
            await asyncio.sleep(0)
            for server in servers:
                server.close()
            for _ in range(_LEAVING_TURNS):
                await asyncio.sleep(leaving_s / _LEAVING_TURNS)
        if drain is not None:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await drain(limits.shutdown_grace_s - leaving_s)
            except TimeoutError:
                _log.warning("draining took longer than %g s", limits.shutdown_grace_s)
            except Exception:
                _log.exception("draining failed")
        if front is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline_s):
                    await front.served()
            front.abort()
        config.graceful_timeout = max(deadline_s - loop.time(), _GRACEFUL_MIN_S)

    servers: list[asyncio.AbstractServer] = []
    try:
        with _watching(config.listener, front, servers):
            await hypercorn_serve(connections, config, shutdown_trigger=shutdown_trigger, mode="asgi")  # type: ignore[arg-type]
    finally:
        if reaper is not None:
            reaper.cancel()
        config.listener.close()
        if connections.abort_all():
            await asyncio.sleep(0)  # let the links tell their owners


def _configured(limits: Limits) -> _Config:
    config = _Config()
    config.backlog = BACKLOG
    config.include_server_header = False
    config.accesslog = None  # Hypercorn's prints decoded paths, in which line breaks forge entries
    config.errorlog = logging.getLogger("hybrid.http")
    config.h11_max_incomplete_size = _HEAD_MAX_BYTES
    config.keep_alive_timeout = _KEEP_ALIVE_S
    config.ssl_handshake_timeout = _TLS_HANDSHAKE_S
    config.websocket_max_message_size = max(limits.command_max_bytes, limits.attach_max_bytes)
    return config


async def _reap(connections: _Connections, deadline_s: float) -> None:
    """Abort every connection at the deadline, and those that were accepted behind it."""
    await asyncio.sleep(deadline_s - asyncio.get_running_loop().time())
    while True:
        count = connections.abort_all()
        if count:
            _log.warning("aborted %d connections that were still open at the end of the grace", count)
        await asyncio.sleep(_REAP_INTERVAL_S)


@contextmanager
def _watching(listener: socket.socket, front: Front | None, servers: list[asyncio.AbstractServer]) -> Iterator[None]:
    """Put the front before this socket's server; and the server, which Hypercorn keeps to itself, into the list."""
    loop: Any = asyncio.get_running_loop()
    create = loop.create_server

    async def create_server(factory: Any, *arguments: Any, **options: Any) -> asyncio.AbstractServer:
        if options.get("sock") is not listener:
            server: asyncio.AbstractServer = await create(factory, *arguments, **options)
            return server
        restore()
        server = await create(factory if front is None else front.before(factory), *arguments, **options)
        servers.append(server)
        return server

    def restore() -> None:
        if vars(loop).get("create_server") is create_server:
            del loop.create_server  # the loop's own method is behind it

    loop.create_server = create_server
    try:
        yield
    finally:
        restore()


def raise_file_limit(wanted: int) -> None:
    """Let this process have so many descriptors, as far as it may: each stream is one, and 1024 is a common default.

    Past the limit new connections are reset without a word, health checks among them.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < may:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, hard))
    if may < wanted:
        _log.warning(
            "only %d files may be open (ulimit -Hn), and limits.links_max needs %d; past that, connections are refused",
            may,
            wanted,
        )


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
