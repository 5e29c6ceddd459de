"""What `serve` and `demo` share: a server in the foreground until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from hybrid.settings import Settings
    from hybrid.web.launcher import AsgiApp

_BANNER = """\
hybrid: the development issuer is on: whoever can reach {url} gets a token for every channel.
hybrid: that is for trying things out; for real use name an authorization server, see docs/settings.md.
"""


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """The options of both commands."""
    from hybrid.cli.parser import number

    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=number(0, 65_535, "N"), metavar="N", help="port to listen on; 0 takes a free one"
    )
    parser.add_argument("--settings", metavar="FILE", help="settings file (default: hybrid.toml, where there is one)")
    parser.add_argument("--loop", choices=("auto", "uvloop", "asyncio"), help="event loop (default: auto)")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="how much is logged on stderr"
    )


def load_settings(options: argparse.Namespace, **more: Any) -> Settings:
    """The settings with the command line's on top; port 0 is replaced by a free port. Raises SettingsError."""
    from hybrid.settings import load

    named = {name: getattr(options, name) for name in ("host", "port", "loop", "log_level")}
    overrides = {name: value for name, value in named.items() if value is not None}
    settings = load(options.settings, overrides={**more, **overrides}, fill_in_issuer=True)
    # The port is part of the public URL and thereby of every token, so it must be known before the app is made.
    return settings.at_port(_free_port(settings.host)) if settings.port == 0 else settings


def run_server(settings: Settings, make_app: Callable[[Settings], Any], announce: Callable[[str], None]) -> int:
    """Serve in the foreground; returns the exit code: 0 after SIGTERM, 130 after Ctrl-C. Raises SettingsError."""
    from hybrid.web.launcher import install_signal_handlers, run, serve

    _configure_logging(settings.log_level)
    code = 0

    def started(port: int) -> None:
        if settings.development_issuer:
            sys.stderr.write(_BANNER.format(url=settings.public_url))
            sys.stderr.flush()
        announce(settings.public_url)

    async def serve_until_told() -> None:
        nonlocal code
        app = make_app(settings)
        engine = app.extensions["hybrid"]
        told = asyncio.Event()
        install_signal_handlers(told)

        def interrupted() -> None:
            nonlocal code
            if told.is_set():
                os._exit(130)  # asked twice: at once
            code = 130
            told.set()

        with suppress(NotImplementedError, ValueError):  # Windows; not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
        try:
            await engine.start()  # before the server does it, which would bury one sentence under two tracebacks
            await serve(
                cast("AsgiApp", app),
                host=settings.host,
                port=settings.port,
                limits=settings.limits,
                shutdown_event=told,
                on_started=started,
                drain=engine.drain,
            )
        finally:
            await engine.close()

    run(serve_until_told, settings.loop)
    return code


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr
    )
    for name in ("authlib", "httpx2", "httpcore2", "hpack", "asyncio", "hypercorn", "hybrid.http"):
        # Authlib logs whole tokens at DEBUG; the others speak of every request, or of the address we announce.
        logging.getLogger(name).setLevel(logging.WARNING)


def _free_port(host: str) -> int:
    """A port that nobody listens on; another process could take it in the moment until we do, and then we say so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((host.strip("[]"), 0))
        except OSError as error:
            from hybrid.errors import SettingsError

            raise SettingsError(detail=f"Cannot listen on {host}: {error.strerror or error}.") from None
        port: int = probe.getsockname()[1]
    return port
