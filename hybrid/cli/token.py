"""`hybrid token`: an access token, of the development issuer at once, or of any issuer by the device flow."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """Print an access token, for curl and the like.

By itself it asks the server's development issuer, which asks nobody. With --device somebody signs in: it prints an
address and a code, waits until the code was entered there in a browser on any machine, and works with every issuer
that offers the device flow (RFC 8628).

The token alone goes to stdout; everything else goes to stderr. `publish` and `tail` get one by themselves when the
server is on this machine.

Examples:
  curl -H "Authorization: Bearer $(hybrid token)" http://127.0.0.1:8000/v1/history/chat:lobby
  hybrid token --subject ada --scope "hybrid:subscribe:chat:*"
  hybrid token --device
  hybrid token --device --issuer https://id.example.com --client-id my-tool
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
    parser.add_argument("--device", action="store_true", help="have somebody sign in, in a browser anywhere")
    parser.add_argument(
        "--issuer", metavar="URL", default="", help="with --device: the authorization server (default: the server's)"
    )
    parser.add_argument(
        "--client-id", metavar="ID", default="", help="with --device: who asks, as the issuer knows it (default: cli)"
    )
    add_client_options(parser, with_token=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Get it and print it."""
    from hybrid.cli.server import run_client
    from hybrid.errors import SettingsError

    if not options.device and (options.issuer or options.client_id):
        raise SettingsError(detail="--issuer and --client-id are for --device.")
    if options.device and options.subject:
        raise SettingsError(detail="--subject cannot be chosen with --device: the token is for who signs in.")
    return run_client(_token(options))


async def _token(options: argparse.Namespace) -> int:
    from hybrid.cli.server import say

    if options.device:
        from hybrid.cli.device import token_by_device

        options.client_id = options.client_id or "cli"
        answer = await token_by_device(options)
    else:
        answer = await _token_at_once(options)
    lifetime_s = answer.get("expires_in")
    if isinstance(lifetime_s, int | float):
        say(f"hybrid: valid for {lifetime_s:g} s, scope: {_scope(answer)}")
    print(answer["access_token"])
    return 0


async def _token_at_once(options: argparse.Namespace) -> dict[str, Any]:
    from hybrid.cli.server import make_endpoint, request_token
    from hybrid.errors import AuthError

    endpoint = make_endpoint(options)
    await endpoint.open()
    try:
        answer = await request_token(endpoint, subject=options.subject, scope=options.scope)
    finally:
        await endpoint.close()
    if answer is None:
        raise AuthError(
            "token_refused",
            "This server has no development issuer; sign in at its authorization server with --device.",
        )
    return answer


def _scope(answer: dict[str, Any]) -> str:
    from hybrid.client.device import fit

    scope = answer.get("scope")
    return fit(scope) if isinstance(scope, str) and scope else "as asked"
