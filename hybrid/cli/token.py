"""`hybrid token`: an access token of the development issuer."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """Print an access token of a server's development issuer, for curl and the like.

The token alone goes to stdout; everything else goes to stderr. `publish` and `tail` do this by themselves when the
server is on this machine.

Examples:
  curl -H "Authorization: Bearer $(hybrid token)" http://127.0.0.1:8000/v1/history/chat:lobby
  hybrid token --subject ada --scope "hybrid:subscribe:chat:*"
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter
    from hybrid.cli.server import add_client_options

    parser = commands.add_parser(
        "token", help="get a token for trying things out", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("--subject", metavar="NAME", default="", help="who the token speaks for (default: a new guest)")
    parser.add_argument("--scope", metavar="SCOPES", default="", help="what it grants (default: everything)")
    add_client_options(parser, with_token=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Get it and print it."""
    from hybrid.cli.server import run_client

    return run_client(_token(options))


async def _token(options: argparse.Namespace) -> int:
    from hybrid.cli.server import make_endpoint, request_token, say
    from hybrid.errors import AuthError

    endpoint = make_endpoint(options)
    await endpoint.open()
    try:
        answer = await request_token(endpoint, subject=options.subject, scope=options.scope)
    finally:
        await endpoint.close()
    if answer is None:
        raise AuthError("token_refused", "This server has no development issuer; ask its authorization server.")
    lifetime_s = answer.get("expires_in")
    if isinstance(lifetime_s, int | float):
        say(f"hybrid: valid for {lifetime_s:g} s, scope: {answer.get('scope', 'as asked')}")
    print(answer["access_token"])
    return 0
