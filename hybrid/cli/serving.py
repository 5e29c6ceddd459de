"""A server in the foreground until it is told to stop: by itself, or as one of the workers of a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from hybrid.cli.running import configure_logging, tell_started
from hybrid.errors import SettingsError
from hybrid.settings import service_environment
from hybrid.web.app import streams_under
from hybrid.web.assignment import Assignment
from hybrid.web.launcher import install_signal_handlers, run, serve
from hybrid.web.lifeline import Lifeline
from hybrid.web.listener import bind
from hybrid.web.logs import introduce
from hybrid.web.metrics import EXTENSION as METRICS
from hybrid.web.systemd import ServiceManager
from hybrid.web.terminal import Terminal

if TYPE_CHECKING:
    from hybrid.settings import Settings
    from hybrid.web.launcher import AsgiApp

_log = logging.getLogger(__name__)


def run_server(settings: Settings, make_app: Callable[[Settings], Any], announce: Callable[[str], None]) -> int:
    """Serve in the foreground; returns the exit code: 0 after SIGTERM, 130 after Ctrl-C. Raises SettingsError."""
    configure_logging(settings.log_level, settings.log_format)
    service = service_environment()
    manager = ServiceManager(service.notify_socket, service.watchdog_s)
    code = 0

    def started(port: int) -> None:
        tell_started(settings, announce)
        manager.ready("Accepts connections")

    async def serve_until_told() -> None:
        nonlocal code
        app = make_app(settings)
        introduce(app.extensions["hybrid"], settings)
        told = asyncio.Event()
        install_signal_handlers(told)
        _handle_hang_up(told, manager)

        def interrupted() -> None:
            nonlocal code
            if told.is_set():
                os._exit(130)  # asked twice: at once
            code = 130
            told.set()

        async def drain(grace_s: float) -> None:
            manager.stopping("Drains")
            await app.extensions["hybrid"].drain(grace_s)

        with suppress(NotImplementedError, ValueError):  # Windows; not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
        _feed_watchdog(manager)
        async with _started(app):
            # Where there may be other nodes it stops accepting before it drains: a balancer that keeps clients on a
            # node would send those that are told to leave to it again. Alone, it says to the end that it drains.
            listener = None if settings.is_memory_broker else bind(settings.host, settings.port)
            await serve(
                cast("AsgiApp", app),
                host=settings.host,
                port=settings.port,
                limits=settings.limits,
                shutdown_event=told,
                on_started=started,
                drain=drain,
                abort_links=app.extensions["hybrid"].abort_all,
                listener=listener,
                streams_under=streams_under(settings, app),
            )

    run(serve_until_told, settings.loop)
    return code


def run_worker(settings: Settings, make_app: Callable[[Settings], Any], assignment_text: str) -> int:
    """Serve as one of several until told to stop, or until the supervisor is gone. Raises SettingsError."""
    try:
        assignment = Assignment.parse(assignment_text)
        lifeline, listener = Lifeline(assignment), assignment.take_listener()
    except (ValueError, OSError):
        raise SettingsError(detail="--worker is for the supervisor of `hybrid serve --workers N` only.") from None
    configure_logging(settings.log_level, settings.log_format, assignment.number)

    async def serve_until_told() -> None:
        app = make_app(settings)
        introduce(app.extensions["hybrid"], settings)
        told = asyncio.Event()
        metrics = app.extensions.get(METRICS)
        if metrics is not None:
            if not assignment.directory:
                raise SettingsError(detail="metrics = true with several workers needs a restart: they had no TMPDIR.")
            metrics.belong(assignment.directory, assignment.number)

        def started(_: int) -> None:
            lifeline.ready()
            if metrics is not None:
                app.extensions["hybrid"].tasks.spawn(metrics.meet())

        def leave() -> None:
            told.set()
            if metrics is not None:
                metrics.is_leaving = True

        lifeline.watch(leave)
        try:
            async with _started(app):
                await serve(
                    cast("AsgiApp", app),
                    host=settings.host,
                    port=settings.port,
                    limits=settings.limits,
                    shutdown_event=told,
                    on_started=started,
                    drain=app.extensions["hybrid"].drain,
                    abort_links=app.extensions["hybrid"].abort_all,
                    listener=listener,
                    streams_under=streams_under(settings, app),
                )
        finally:
            lifeline.close()

    run(serve_until_told, settings.loop)
    return 0


@asynccontextmanager
async def _started(app: Any) -> AsyncIterator[None]:
    """Start the app's engine before the server does it, which would bury one sentence under two tracebacks."""
    engine = app.extensions["hybrid"]
    try:
        await engine.start()
        yield
    finally:
        await engine.close()


def _handle_hang_up(told: asyncio.Event, manager: ServiceManager) -> None:
    """SIGHUP asks for a reload, which one process cannot do without refusing connections: it says so and goes on."""
    if os.name != "posix":
        return
    terminal = Terminal()

    def hung_up() -> None:
        if terminal.has_hung_up():
            told.set()
            return
        manager.reloading()
        _log.warning(
            "SIGHUP: one process cannot reload without an interruption, and nothing was changed; restart it, or serve "
            "with --workers 2 or more"
        )
        manager.ready("Accepts connections; a reload needs more than one worker")

    with suppress(ValueError):  # not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def _feed_watchdog(manager: ServiceManager) -> None:
    """From the event loop: where that stands still, systemd hears nothing and acts."""
    interval_s = manager.watchdog_interval_s
    if interval_s is None:
        return

    def feed() -> None:
        manager.alive()
        asyncio.get_running_loop().call_later(interval_s, feed)

    feed()
