"""`hybrid revoke`: refuse tokens from now on, and end what they hold open."""

from __future__ import annotations

import argparse
from typing import Any

_SCOPE = "hybrid:revoke"
_KINDS = ("jti", "sid", "subject", "client")
_DESCRIPTION = """Revoke tokens: they are refused from now on, and what they hold open ends, on all nodes.

A subject or a client can sign in again at once: only tokens that were issued until now are refused. A jti (one token)
and a sid (one sign-in) are refused for good. The token of this command needs the scope hybrid:revoke, and revokes
those of its own issuer.

Examples:
  hybrid revoke --subject alice
  hybrid revoke --jti 4b1c0e7a
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter
    from hybrid.cli.server import add_client_options

    parser = commands.add_parser(
        "revoke", help="revoke tokens and end their sessions", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--subject", metavar="SUB", help="all tokens issued to this subject until now")
    which.add_argument("--client", metavar="ID", help="all tokens issued to this client until now")
    which.add_argument("--sid", metavar="SID", help="all tokens of this sign-in")
    which.add_argument("--jti", metavar="JTI", help="this token")
    add_client_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Revoke and say what was done."""
    from hybrid.cli.server import run_client

    return run_client(_revoke(options))


async def _revoke(options: argparse.Namespace) -> int:
    import json

    from hybrid.cli.server import TokenSource, make_endpoint, request, unreachable

    [(kind, value)] = [(kind, value) for kind in _KINDS if (value := getattr(options, kind)) is not None]
    endpoint = make_endpoint(options)
    source = TokenSource(options, endpoint, scope=_SCOPE)
    await endpoint.open()
    try:
        token = await source.get()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        answer = await request(endpoint, "POST", "/v1/revoke", headers, json.dumps({kind: value}).encode())
    finally:
        await endpoint.close()
    try:
        done = json.loads(answer)
        print(f"revoked: {kind} {value} of {done['issuer']}; ended at the node that answered: {done['ended_here']:d}")
    except (ValueError, KeyError, TypeError):
        raise unreachable(endpoint, "the answer is not that of a hybrid server") from None
    return 0
