"""`hybrid serve`: the server."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """Run the server.

Without any settings it listens on http://127.0.0.1:8000 and, since only this machine can reach it, hands out tokens
itself, so that `hybrid tail` and `hybrid publish` work at once. For real use write a hybrid.toml that names your
authorization server; every key can also be set as a variable, such as HYBRID_PORT=9000 or
HYBRID_NAMESPACES_CHAT_HISTORY_SIZE=500. docs/settings.md lists them all.

Examples:
  hybrid serve
  hybrid serve --settings /etc/hybrid.toml --host 0.0.0.0 --port 8080
  HYBRID_ISSUERS=https://id.example.com HYBRID_PUBLIC_URL=https://live.example.com hybrid serve

Ctrl-C or SIGTERM tells all clients to come back elsewhere and ends within limits.shutdown_grace_s; a second one ends
at once. It prints its URL on stdout as soon as it accepts connections.
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter
    from hybrid.cli.running import add_server_options

    parser = commands.add_parser(
        "serve", help="run the server", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    add_server_options(parser)
    parser.add_argument("--public-url", metavar="URL", help="how clients reach the server; tokens must name it")
    parser.add_argument(
        "--development-issuer", action="store_true", default=None, help="hand out tokens to anybody; loopback only"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from hybrid.cli.running import load_settings, run_server

    more = {name: getattr(options, name) for name in ("public_url", "development_issuer")}
    settings = load_settings(options, **{name: value for name, value in more.items() if value is not None})
    from hybrid.web.app import create_app

    return run_server(settings, create_app, lambda url: print(f"hybrid serves {url}", flush=True))
