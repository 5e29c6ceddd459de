"""`hybrid top`: what a deployment does now, in a terminal."""

from __future__ import annotations

import argparse
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hybrid.top.view import INTERVALS_S, PREFIX_MAX, SORTS

if TYPE_CHECKING:
    from hybrid.top.ask import Asker
    from hybrid.top.figures import Figures
    from hybrid.top.snapshot import Snapshot
    from hybrid.top.view import View

_SCOPE = "hybrid:metrics hybrid:nodes hybrid:channels:*"
_DESCRIPTION = """Watch a deployment: who is connected, what is published and delivered, who is slow, which limits are
hit, how late the event loops are, how the broker does; by worker, by channel and by node.

Name every server whose workers are to be seen (each machine, not the balancer): they tell `metrics = true`. Nodes and
channels are told by the first of them that answers. The token needs the scopes hybrid:metrics, hybrid:nodes and
hybrid:channels:*; what it may not see is left out, with the reason. It is sent to every server that is named.

Where the output is not a terminal, or TERM is dumb, the tables are printed once in each interval, without colour, as
NO_COLOR does. Keys: q ends; s sorts by the next column, r the other way round; / filters channels; + and - change the
interval; p pauses; space looks at once.

With --once the exit status is 0 when every server has told its metrics; 1 when one of them did not, or refused; 2 where
nobody is there, or the command cannot be carried out as given.

Examples:
  hybrid top
  hybrid top http://10.1.2.10:8000 http://10.1.2.11:8000 --token-file ops.token
  hybrid top --once --sort clients --filter chat:
  hybrid top --json --once | jq .deliveries_per_s
"""
_CHANNELS = 10
_CHANNELS_MAX = 100
_SERVERS_MAX = 50


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter, decimal, number

    parser = commands.add_parser(
        "top", help="watch a deployment", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("urls", metavar="URL", nargs="*", help="the servers (default: HYBRID_URL, else this machine's)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="file that holds an access token (default: HYBRID_TOKEN, else a token of the server's development issuer, "
        "where the server is on this machine)",
    )
    parser.add_argument(
        "--interval",
        type=decimal(INTERVALS_S[0], 3_600.0, "SECONDS"),
        default=INTERVALS_S[0],
        metavar="SECONDS",
        help=f"how often to look, and what rates are over (default: {INTERVALS_S[0]:g})",
    )
    parser.add_argument("--sort", choices=SORTS, default=SORTS[0], help=f"what comes first (default: {SORTS[0]})")
    parser.add_argument("--reverse", action="store_true", help="the least first")
    parser.add_argument(
        "--filter", type=_prefix, default="", metavar="PREFIX", help="only channels whose names begin with this"
    )
    parser.add_argument(
        "--channels",
        type=number(0, _CHANNELS_MAX, "N"),
        default=_CHANNELS,
        metavar="N",
        help=f"the N channels with the most subscribers; each is a request at each look (default: {_CHANNELS})",
    )
    parser.add_argument("--once", action="store_true", help="look twice, an interval apart, print, and end")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, at each look")
    parser.set_defaults(run=run)


def _prefix(text: str) -> str:
    if len(text.encode("utf-8", "replace")) > PREFIX_MAX:
        raise argparse.ArgumentTypeError(f"PREFIX has at most {PREFIX_MAX} bytes")
    return text


def run(options: argparse.Namespace) -> int:
    """Watch until somebody has seen enough."""
    from hybrid.cli.server import run_client
    from hybrid.top.reading import check_installed

    check_installed()
    return run_client(_top(options))


async def _top(options: argparse.Namespace) -> int:
    from hybrid.top.ask import first
    from hybrid.top.table import clean

    async with AsyncExitStack() as stack:
        asker = await _asker(options, stack)
        view = _view(options)
        now = await asker.look(view.prefix)
        trouble = first(now.troubles)
        if now.is_empty and trouble is not None:
            print(f"hybrid: {clean(trouble.sentence)}", file=sys.stderr)
            return 1 if trouble.kind == "refused" else 2
        if options.once or options.json or not _is_terminal():
            return await _print(asker, view, now, options)
        return await _watch(asker, view, now)


async def _asker(options: argparse.Namespace, stack: AsyncExitStack) -> Asker:
    from hybrid.cli.server import TokenSource
    from hybrid.client.endpoint import Endpoint
    from hybrid.errors import SettingsError
    from hybrid.settings import client_environment
    from hybrid.top.ask import Asker, Source

    urls = list(dict.fromkeys(options.urls or [client_environment().url]))
    if len(urls) > _SERVERS_MAX:
        raise SettingsError(detail=f"At most {_SERVERS_MAX} servers can be watched at once; name fewer.")
    sources = []
    for url in urls:
        endpoint = Endpoint(url)
        tokens = TokenSource(options, endpoint, scope=_SCOPE)
        stack.push_async_callback(endpoint.close)
        await endpoint.open()
        sources.append(Source(endpoint.netloc + endpoint.path, endpoint, tokens.get))
    return Asker(sources, options.channels)


def _view(options: argparse.Namespace) -> View:
    from hybrid.top.view import View

    return View(options.interval, options.sort, options.reverse, options.filter)


def _is_terminal() -> bool:
    import os

    return sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


async def _print(asker: Asker, view: View, before: Snapshot, options: argparse.Namespace) -> int:
    """At the end of each interval, or of one."""
    import asyncio

    from hybrid.top.figures import compare

    while True:
        await asyncio.sleep(view.interval_s)
        now = await asker.look(view.prefix)
        _tell(compare(before, now), view, options)
        if options.once:
            return 0 if all(server.reading is not None for server in now.servers) else 1
        before = now


def _tell(figures: Figures, view: View, options: argparse.Namespace) -> None:
    from hybrid.top.report import as_json
    from hybrid.top.screen import plain
    from hybrid.top.terminal import painted

    if options.json:
        print(as_json(figures, view), flush=True)
        return
    text = "\n".join(painted(line, has_colour=False) for line in plain(figures, view))
    print(text if options.once else f"{text}\n", flush=True)


async def _watch(asker: Asker, view: View, first: Snapshot) -> int:
    """Until `q`; SIGTERM and SIGHUP give the terminal back before they end it."""
    import asyncio
    import os
    import signal
    from contextlib import suppress

    from hybrid.top.live import Live
    from hybrid.top.terminal import Terminal

    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    terminal = Terminal(sys.stdout, keys, has_colour=not os.environ.get("NO_COLOR"))
    ended: list[int] = []
    running = asyncio.create_task(Live(asker, view, terminal, first).run())

    def end(number: int) -> None:
        ended.append(number)
        running.cancel()

    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, NotImplementedError):  # Windows
            number = getattr(signal, name)
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await running
    except asyncio.CancelledError:
        if not ended:
            raise
    return 128 + ended[0] if ended else 0
