"""`hybrid serve`: the server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.settings import Settings

_DESCRIPTION = """Run the server.

Without any settings it listens on http://127.0.0.1:8000 and, since only this machine can reach it, hands out tokens
itself, so that `hybrid tail` and `hybrid publish` work at once. For real use write a hybrid.toml that names your
authorization server; every key can also be set as a variable, such as HYBRID_PORT=9000 or
HYBRID_NAMESPACES_CHAT_HISTORY_SIZE=500. docs/settings.md lists them all.

Examples:
  hybrid serve
  hybrid serve --settings /etc/hybrid.toml --host 0.0.0.0 --port 8080
  HYBRID_BROKER=redis://127.0.0.1:6379/0 hybrid serve --workers 4
  hybrid serve --settings /etc/hybrid.toml --check
  HYBRID_ISSUERS=https://id.example.com HYBRID_PUBLIC_URL=https://live.example.com hybrid serve
  hybrid serve --app shop.site:app

With --app it serves an application that embeds hybrid (docs/embedding.md), by the application's own settings, which
the options reach as variables such as HYBRID_PORT.

Ctrl-C or SIGTERM tells all clients to come back elsewhere and ends within limits.shutdown_grace_s; a second one ends
at once. It prints its URL on stdout as soon as it accepts connections, with workers as soon as all of them do.

With more than one worker, a supervisor replaces workers that end or hang, and SIGHUP renews one worker after the other
without refusing a connection: with the settings and the code of that moment, if the settings are good. The number of
workers and the address stay.
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter, number
    from hybrid.cli.running import add_server_options

    parser = commands.add_parser(
        "serve", help="run the server", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    add_server_options(parser)
    parser.add_argument("--public-url", metavar="URL", help="how clients reach the server; tokens must name it")
    parser.add_argument(
        "--development-issuer", action="store_true", default=None, help="hand out tokens to anybody; loopback only"
    )
    parser.add_argument(
        "--workers",
        type=number(1, 1024, "N"),
        metavar="N",
        help="processes that serve the port; more than one needs Redis (default: 1)",
    )
    parser.add_argument("--app", metavar="MODULE:NAME", help="serve an application of your own that embeds hybrid")
    parser.add_argument("--check", action="store_true", help="say whether the settings are good, and end")
    parser.add_argument("--worker", help=argparse.SUPPRESS)  # what a supervisor tells its workers, and nobody else
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from hybrid.cli.running import load_settings

    more = {name: getattr(options, name) for name in ("public_url", "development_issuer")}
    overrides = {name: value for name, value in more.items() if value is not None}
    app: Any = None
    if options.app:
        from hybrid.cli.application import load_application

        app, settings = load_application(options, overrides)
    else:
        settings = load_settings(options, **overrides)
    if settings.workers > 1 and not options.worker and not options.check:
        from hybrid.cli.supervising import supervise

        return supervise(settings, options, overrides, _announce)
    from hybrid.cli.serving import run_server, run_worker
    from hybrid.web.app import create_app

    def make_app(settings: Settings) -> Any:
        return create_app(settings) if app is None else app

    if options.check:
        make_app(settings)
        print("hybrid: the settings are good")
        return 0
    if options.worker:
        return run_worker(settings, make_app, options.worker)
    return run_server(settings, make_app, _announce)


def _announce(url: str) -> None:
    print(f"hybrid serves {url}", flush=True)
