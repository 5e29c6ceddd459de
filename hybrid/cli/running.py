"""What `serve` and `demo` share ahead of serving: options, settings, the log. Loads nothing that serves."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.settings import Settings

_log = logging.getLogger(__name__)
_BANNER = """\
hybrid: the development issuer is on: whoever can reach {url} gets a token under any name, without a password.
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
    settings = read_settings(options, **more)
    # The port is part of the public URL and thereby of every token, so it must be known before the app is made.
    return settings.at_port(free_port(settings.host)) if settings.port == 0 else settings


def read_settings(options: argparse.Namespace, **more: Any) -> Settings:
    """As `load_settings`, with the port as it is written. Raises SettingsError."""
    from hybrid.settings import load

    named = {name: getattr(options, name, None) for name in ("host", "port", "loop", "log_level", "workers")}
    overrides = {name: value for name, value in named.items() if value is not None}
    return load(options.settings, overrides={**more, **overrides}, fill_in_issuer=True)


def tell_started(settings: Settings, announce: Callable[[str], None]) -> None:
    """Say where the server is, and whether it gives tokens to anybody."""
    if settings.development_issuer and settings.log_format == "json":
        _log.warning("the development issuer is on: whoever can reach %s gets a token", settings.public_url)
    elif settings.development_issuer:
        sys.stderr.write(_BANNER.format(url=settings.public_url))
        sys.stderr.flush()
    announce(settings.public_url)


def configure_logging(level: str, form: str = "readable", worker: int = 0) -> None:
    """Log to stderr, in one of the forms of `log_format`; the lines of a worker name it."""
    from hybrid.logs import JsonFormatter, ReadableFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker) if form == "json" else ReadableFormatter(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in ("authlib", "httpx2", "httpcore2", "hpack", "asyncio", "hypercorn", "hybrid.http"):
        # Authlib logs whole tokens at DEBUG; the others speak of every request, or of the address we announce.
        logging.getLogger(name).setLevel(logging.WARNING)


def free_port(host: str) -> int:
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
