"""`hybrid doctor`: what the network between here and a server does to each transport."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from hybrid.client.doctor import Examination, Finding
    from hybrid.client.endpoint import Endpoint

_DESCRIPTION = """Try every transport from here, say in words what the network does to each, and what hybrid will use.

It tries what the clients use: a WebSocket, an event stream and a poll that waits, each with a nonce that has to come
back; heartbeats that the server is asked for, which shows what is held back or comes in lumps; and connections that
are held open in silence, which shows what is cut when idle (--idle; Ctrl-C ends it with what is known by then). With a
token (as for the other commands) streams are opened; without one the server is only heard refusing.

Over https it says who issued the certificate. The token is not sent where that is nobody who is trusted here, nor
where --expect-issuer names somebody else, or it could not be seen. Nothing more is tried over a certificate that is
not trusted, but with --insecure, and then without a token.

The page /static/doctor.html of the server does the same from a browser, as far as one can see it.

The exit status is 0 where at least one transport works; 1 where none does, or where the certificate is not the right
one; 2 where the command cannot be carried out as given; 130 when it was interrupted.

Examples:
  hybrid doctor https://live.example.com
  hybrid doctor https://live.example.com --idle 90 --expect-issuer "Let's Encrypt"
  HYBRID_TOKEN=$(cat token) hybrid doctor https://live.example.com --json | jq .will_use
"""
_WIDTH = 10
_IDLE_S = 30
_IDLE_MAX_S = 3_600


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter, number

    parser = commands.add_parser(
        "doctor", help="find out what the network does", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the server (default: HYBRID_URL, else this machine's)")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds an access token (default: HYBRID_TOKEN)")
    parser.add_argument(
        "--idle",
        type=number(0, _IDLE_MAX_S, "SECONDS"),
        default=_IDLE_S,
        metavar="SECONDS",
        help=f"how long connections are held open in silence; 0 leaves it out (default: {_IDLE_S})",
    )
    parser.add_argument(
        "--expect-issuer",
        default="",
        metavar="NAME",
        help="who must have issued the certificate: the name that is told where nothing is in between, or a part of it",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="go on over a certificate that is not trusted, without a token"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine and tell."""
    from hybrid.cli.server import run_client

    return run_client(_examine(options))


async def _examine(options: argparse.Namespace) -> int:
    from hybrid.cli.server import make_endpoint, say
    from hybrid.client.doctor import Examination, Pace

    async with AsyncExitStack() as stack:
        endpoint = make_endpoint(options)
        stack.push_async_callback(endpoint.close)
        await endpoint.open()
        token = await _token(options, endpoint)
        progress = _Progress(options.idle)
        examination = Examination(
            endpoint,
            token,
            pace=Pace(idle_s=options.idle),
            expected_issuer=options.expect_issuer,
            unchecked=await _unchecked(options, stack) if options.insecure else None,
            on_finding=lambda finding: None if options.json else _tell(finding, progress),
            on_idle=progress.begin,
        )
        say("trying; this takes some seconds")
        has_ended = False
        try:
            await examination.run()
            has_ended = True
        finally:
            await progress.end()
            # Interrupted: what is known by now is what was paid for.
            if has_ended or examination.findings:
                _conclude(options, endpoint, examination, has_ended)
    is_right = all(finding.works for finding in examination.findings if finding.name == "tls")
    return 0 if examination.verdict.will_use and is_right else 1


async def _token(options: argparse.Namespace, endpoint: Endpoint) -> str | None:
    from hybrid.cli.server import TokenSource, say
    from hybrid.errors import HybridError, SettingsError

    try:
        return await TokenSource(options, endpoint).get()
    except SettingsError:
        raise  # the command was given something that is no token: without one it would be another examination
    except (HybridError, ConnectionError) as error:
        say(f"without a token: {error}")
        return None


async def _unchecked(options: argparse.Namespace, stack: AsyncExitStack) -> Endpoint:
    from hybrid.client.doctor.certificate import unchecked_tls
    from hybrid.client.endpoint import Endpoint
    from hybrid.settings import client_environment

    endpoint = Endpoint(options.url or client_environment().url, tls=unchecked_tls())
    stack.push_async_callback(endpoint.close)
    await endpoint.open()
    return endpoint


class _Progress:
    """The seconds of silence as they pass, on a terminal; one line elsewhere."""

    def __init__(self, idle_s: int) -> None:
        self._idle_s = idle_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The silence begins."""
        import asyncio

        from hybrid.cli.server import say

        say(f"holding connections open in silence for {self._idle_s} s; Ctrl-C ends it")
        if sys.stderr.isatty():
            self._task = asyncio.create_task(self._count())

    def wipe(self) -> None:
        """Make room for a line."""
        if self._task is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    async def end(self) -> None:
        """It is over."""
        import asyncio

        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.wipe()

    async def _count(self) -> None:
        import asyncio

        clock = asyncio.get_running_loop().time
        began_s = clock()
        while True:
            passed_s = min(int(clock() - began_s), self._idle_s)
            filled = round(20 * passed_s / self._idle_s)
            sys.stderr.write(f"\r[{'#' * filled}{'.' * (20 - filled)}] {passed_s} of {self._idle_s} s ")
            sys.stderr.flush()
            await asyncio.sleep(1)


def _tell(finding: Finding, progress: _Progress) -> None:
    progress.wipe()
    name = "idle" if finding.name.endswith("-idle") else finding.name
    first, *rest = finding.facts
    lines = [f"{_verdict_on(finding)}{first}", *rest]
    for index, line in enumerate(lines):
        print(f"{name if index == 0 else '':<{_WIDTH}} {line}", flush=True)


def _verdict_on(finding: Finding) -> str:
    from hybrid.client.doctor import TRANSPORTS

    if finding.name.endswith("-idle"):
        return f"{finding.name.removesuffix('-idle')}: "
    if not finding.works:
        return "fails: "
    if finding.name not in TRANSPORTS:
        return ""
    return "works badly: " if finding.flaws else "works: "


def _conclude(options: argparse.Namespace, endpoint: Endpoint, examination: Examination, has_ended: bool) -> None:
    from hybrid import __version__

    verdict = examination.verdict
    if not options.json:
        print(f"\n{verdict.sentence}" if has_ended else f"\nSo far: {verdict.sentence}", flush=True)
        return
    told = {
        "url": f"{'https' if endpoint.is_secure else 'http'}://{endpoint.netloc}",
        "version": __version__,
        "has_token": examination.has_token,
        "is_complete": has_ended,
        "will_use": verdict.will_use,
        "sentence": verdict.sentence,
        "findings": [finding.as_json() for finding in examination.findings],
    }
    print(json.dumps(told, indent=2, ensure_ascii=False), flush=True)
