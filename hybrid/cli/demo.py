"""`hybrid demo`: everything at once, on this machine, in a browser."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """Run the server with a page that shows what it does.

It needs nothing else: no Redis, no identity provider. It prints one URL; open it in a browser, then pull the cable.

Examples:
  hybrid demo
  hybrid demo --port 0         on any free port
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter
    from hybrid.cli.running import add_server_options

    parser = commands.add_parser(
        "demo", help="the server with a page that shows it", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    add_server_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve the demo until told to stop."""
    from hybrid.cli.running import load_settings

    # One URL is what a person needs to see here; the ends of streams are in the log of `serve`.
    settings = load_settings(options, development_issuer=True, log_level="warning")
    from hybrid.cli.serving import run_server
    from hybrid.web.demo import create_demo_app

    return run_server(settings, create_demo_app, lambda url: print(url, flush=True))
