"""`hybrid publish`: one publication."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_DESCRIPTION = """Publish one JSON value to a channel and print its cursor.

Text is a JSON string and needs its quotes, inside those of the shell. With - the value is read from standard input.

Examples:
  hybrid publish chat:lobby '"hello"'
  hybrid publish sensors:roof '{"celsius": 21.5}' --type reading
  date | jq -R . | hybrid publish chat:lobby -
"""
_STDIN_MAX_BYTES = 16_777_216


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter
    from hybrid.cli.server import add_client_options

    parser = commands.add_parser(
        "publish", help="publish to a channel", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("channel", metavar="CHANNEL", help="the channel's name, such as chat:lobby")
    parser.add_argument("json", metavar="JSON", help="the value, or - for standard input")
    parser.add_argument("--type", metavar="NAME", help="type of the publication: letters, digits and ._-")
    parser.add_argument("--key", metavar="KEY", help="idempotency key: the same again within 5 minutes has no effect")
    add_client_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Publish and print the cursor."""
    from hybrid.cli.server import run_client

    return run_client(_publish(options, _read_json(options.json)))


def _read_json(text: str) -> bytes:
    import json

    from hybrid.errors import SettingsError

    raw = sys.stdin.buffer.read(_STDIN_MAX_BYTES) if text == "-" else text.encode("utf-8", "surrogateescape")
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SettingsError(detail=f"""This is not JSON: {reason}. Text needs its own quotes: '"hello"'.""") from None
    return raw.strip()


async def _publish(options: argparse.Namespace, body: bytes) -> int:
    import msgspec

    from hybrid.cli.server import TokenSource, make_endpoint, request, unreachable
    from hybrid.protocol.channels import parse_channel, percent_encode
    from hybrid.protocol.commands import WirePosition
    from hybrid.protocol.cursor import format_cursor, from_wire

    path = f"/v1/channels/{percent_encode(parse_channel(options.channel))}"
    endpoint = make_endpoint(options)
    source = TokenSource(options, endpoint)
    await endpoint.open()
    try:
        token = await source.get()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        if options.type is not None:
            headers["Hybrid-Type"] = options.type
        if options.key is not None:
            headers["Idempotency-Key"] = options.key
        answer = await request(endpoint, "POST", path, headers, body)
    finally:
        await endpoint.close()
    try:
        position = msgspec.json.decode(answer, type=WirePosition)
    except msgspec.MsgspecError:
        raise unreachable(endpoint, "the answer is not that of a hybrid server") from None
    print(format_cursor(from_wire(position)))
    return 0
