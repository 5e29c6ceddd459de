"""`hybrid tail`: follow a channel."""

from __future__ import annotations

import argparse
import json
from typing import Any

_DESCRIPTION = """Follow a channel: one line of JSON for each publication, {"cursor", "type"?, "data"}.

It comes back by itself after a cut and goes on after the last line it has printed. Should publications have been lost
to it because it was away for longer than the history reaches, it says so on stderr.

Examples:
  hybrid tail chat:lobby
  hybrid tail chat:lobby --history 10 --count 10
  hybrid tail chat:lobby --transport longpoll --after k3f9-42-9c1d07aa
  hybrid tail chat:lobby | jq .data
"""


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter, number
    from hybrid.cli.server import add_client_options

    parser = commands.add_parser(
        "tail", help="follow a channel", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("channel", metavar="CHANNEL", help="the channel's name, such as chat:lobby")
    parser.add_argument(
        "--transport", choices=("websocket", "sse", "longpoll"), default="websocket", help="default: websocket"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--after", metavar="CURSOR", help="go on after this cursor; 0 is the start")
    start.add_argument("--history", type=number(0, 1000, "N"), default=0, metavar="N", help="begin with the last N")
    parser.add_argument("--count", type=number(1, 2**53, "N"), metavar="N", help="end after N publications")
    add_client_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print until there were enough, or until interrupted."""
    from hybrid.cli.server import run_client

    return run_client(_tail(options))


async def _tail(options: argparse.Namespace) -> int:
    from contextlib import aclosing

    from hybrid.cli.server import TokenSource, make_endpoint, say, unreachable
    from hybrid.client.credentials import Credentials
    from hybrid.client.plain import PlainReader, PlainReset, Unreachable

    endpoint = make_endpoint(options)
    reader = PlainReader(
        endpoint,
        Credentials(TokenSource(options, endpoint).get),
        options.channel,
        options.transport,
        after=options.after,
        history=options.history,
    )
    await endpoint.open()
    count = 0
    try:
        async with aclosing(reader.items()) as items:
            async for item in items:
                if isinstance(item, PlainReset):
                    say(f"hybrid: some publications are lost to this reader; it goes on after {item.cursor}")
                    continue
                line: dict[str, Any] = {"cursor": item.cursor}
                if item.type is not None:
                    line["type"] = item.type
                line["data"] = item.data
                print(json.dumps(line, ensure_ascii=False, separators=(",", ":")), flush=True)
                count += 1
                if count == options.count:
                    return 0
        return 0
    except Unreachable as error:
        message = str(error)
        raise (error if message.startswith("Cannot reach") else unreachable(endpoint, message)) from None
    finally:
        await endpoint.close()
