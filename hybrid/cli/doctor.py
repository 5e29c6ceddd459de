"""`hybrid doctor`: what the network between here and a server does to each transport."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_DESCRIPTION = """Try every transport from here, and say in words what the network does to each.

It tries what the clients use: a WebSocket, an event stream and a poll that waits, each with a nonce that has to come
back. With a token (as for the other commands) streams are opened; without one the server is only heard refusing.

The exit status is 0 where at least one transport works, 1 where none does.

Examples:
  hybrid doctor https://live.example.com
  HYBRID_TOKEN=$(cat token) hybrid doctor https://live.example.com
"""
_WIDTH = 10


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter

    parser = commands.add_parser(
        "doctor", help="find out what the network does", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the server (default: HYBRID_URL, else this machine's)")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds an access token (default: HYBRID_TOKEN)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine and tell."""
    from hybrid.cli.server import run_client

    return run_client(_examine(options))


async def _examine(options: argparse.Namespace) -> int:
    from hybrid.cli.server import TokenSource, make_endpoint
    from hybrid.client.doctor import TRANSPORTS, examine
    from hybrid.errors import HybridError

    endpoint = make_endpoint(options)
    await endpoint.open()
    try:
        try:
            token = await TokenSource(options, endpoint).get()
        except (HybridError, ConnectionError) as error:
            print(f"without a token: {error}", file=sys.stderr)
            token = None
        print("trying; this takes some seconds", file=sys.stderr)
        findings = await examine(endpoint, token)
    finally:
        await endpoint.close()
    for finding in findings:
        verdict = "works: " if finding.works and finding.name in TRANSPORTS else "" if finding.works else "fails: "
        print(f"{finding.name:<{_WIDTH}} {verdict}{finding.facts[0]}")
        for fact in finding.facts[1:]:
            print(f"{'':<{_WIDTH}} {fact}")
    usable = [finding.name for finding in findings if finding.works and finding.name in TRANSPORTS]
    if not usable:
        print("\nhybrid cannot get through here.")
        return 1
    print(f"\nhybrid will use {usable[0]} here" + (f", or else {' or '.join(usable[1:])}." if usable[1:] else "."))
    return 0
