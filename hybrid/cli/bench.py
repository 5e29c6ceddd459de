"""`hybrid bench`: a load test for one's own deployment."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.bench.messages import Target
    from hybrid.bench.plan import Plan
    from hybrid.bench.result import Result
    from hybrid.client.endpoint import Endpoint

_DESCRIPTION = """Load your own deployment: subscribers over any mix of transports, publishers, and what it came to.

It opens --clients, has publishers publish for --duration, and tells how long every publication took from send to
receipt, how many were delivered, what the server used for it (--pid), and whether the load itself was the limit. It
checks every offset at every client while it measures: nothing may be lost, repeated or out of order.

Use it on servers that are yours. It keeps to what a server tells it (Retry-After, a moment of its own in a storm),
unless it is --rude. Its channels are its own: a prefix (--prefix), a number of the run, and a number.

The exit status is 0 when everything was delivered in order, 1 when not or when clients were kept out, 2 where the
command cannot be carried out as given, 130 when it was interrupted (with what was measured until then).

Examples:
  hybrid bench http://127.0.0.1:8000 --pid $(pgrep -of 'hybrid serve')
  hybrid bench https://live.example.com --clients 1000 --mix websocket=70,sse=20,longpoll=10 --token-file tokens
  hybrid bench http://127.0.0.1:8000 --channels 100 --per-channel 50 --clients 5000 --processes 2
  hybrid bench http://127.0.0.1:8000 --rate 200 --duration 60 --html report.html --json result.json
  hybrid bench http://127.0.0.1:8000 --clients 5000 --storm connect --duration 0
  hybrid bench http://127.0.0.1:8000 --clients 2000 --rate 50 --storm reconnect
"""
_CLIENTS = 100
_DURATION_S = 10.0
_DURATION_BY_COUNT_S = 3_600.0
_SUBJECTS = 64
_MINTED_AT_ONCE = 4


def add_command(commands: Any) -> None:
    """Add it to the command line."""
    from hybrid.cli.parser import HelpFormatter

    parser = commands.add_parser(
        "bench", help="load-test a deployment of yours", description=_DESCRIPTION, formatter_class=HelpFormatter
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the server (default: HYBRID_URL, else this machine's)")
    for add in (_add_listeners, _add_publishing, _add_time, _add_storms, _add_place, _add_tokens, _add_results):
        add(parser)
    parser.set_defaults(run=run)


def _add_listeners(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import number

    group = parser.add_argument_group("who listens")
    group.add_argument(
        "--clients",
        type=number(0, 1_000_000, "N"),
        default=_CLIENTS,
        metavar="N",
        help=f"subscribers (default: {_CLIENTS})",
    )
    group.add_argument(
        "--mix",
        default="websocket",
        metavar="SHARES",
        help="their transports, such as websocket=70,sse=20,longpoll=10; plain-sse is an event stream without a "
        "session (default: websocket)",
    )
    group.add_argument("--channels", type=number(1, 100_000, "N"), metavar="N", help="how many channels (default: 1)")
    group.add_argument(
        "--per-channel",
        type=number(1, 1_000_000, "N"),
        metavar="N",
        help="clients on each channel (default: every client is on one)",
    )
    group.add_argument("--prefix", default="bench:", metavar="TEXT", help="what channels' names begin with (bench:)")


def _add_publishing(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import decimal, number

    group = parser.add_argument_group("what is published")
    group.add_argument("--publishers", type=number(0, 10_000, "N"), default=1, metavar="N", help="default: 1")
    group.add_argument(
        "--publish-over", choices=("http", "websocket"), default="http", help="how they publish (default: http)"
    )
    group.add_argument(
        "--rate",
        type=decimal(0, 1_000_000, "RATE"),
        default=0.0,
        metavar="RATE",
        help="publications a second, of all publishers (default: each as soon as the one before was answered)",
    )
    group.add_argument(
        "--in-flight",
        type=number(1, 1_000, "N"),
        metavar="N",
        help="publishes of each publisher that wait for their answers at most (default: 1; with --rate: 32)",
    )
    group.add_argument(
        "--size",
        type=number(24, 1_048_576, "BYTES"),  # the mark with the time of sending, in its quotes, is 24 long
        default=128,
        metavar="BYTES",
        help="of the data (default: 128); past 65,536 the server has to allow it (data_max_bytes)",
    )


def _add_time(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import decimal, number

    group = parser.add_argument_group("how long")
    group.add_argument(
        "--duration",
        type=decimal(0, 86_400, "SECONDS"),
        metavar="SECONDS",
        help=f"of publishing; 0 only connects (default: {_DURATION_S:g})",
    )
    group.add_argument(
        "--publications", type=number(1, 1_000_000_000, "N"), metavar="N", help="end after so many, whatever the time"
    )
    group.add_argument(
        "--drain",
        type=decimal(0, 3_600, "SECONDS"),
        default=15.0,
        metavar="SECONDS",
        help="how long the last deliveries are waited for (default: 15)",
    )


def _add_storms(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import decimal, number

    group = parser.add_argument_group("storms")
    group.add_argument(
        "--storm",
        action="append",
        choices=("connect", "reconnect"),
        default=[],
        help="connect: all clients come at once; reconnect: in the middle all are cut, and come back at once",
    )
    group.add_argument(
        "--connecting",
        type=number(1, 100_000, "N"),
        default=64,
        metavar="N",
        help="without a storm, so many connect at the same time (default: 64)",
    )
    group.add_argument(
        "--connect-timeout",
        type=decimal(1, 86_400, "SECONDS"),
        default=60.0,
        metavar="SECONDS",
        help="until all have to be in (default: 60)",
    )
    group.add_argument("--rude", action="store_true", help="come back at once, whatever Retry-After says")


def _add_place(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import number

    group = parser.add_argument_group("this side")
    group.add_argument(
        "--processes",
        type=number(1, 256, "N"),
        metavar="N",
        help="of the load (default: 1, or 2 from 2,000 clients on)",
    )
    group.add_argument(
        "--pid",
        action="append",
        type=number(1, 2**31 - 1, "PID"),
        default=[],
        metavar="PID",
        help="a process of the server, on this host; its children count too. Can be given several times",
    )
    group.add_argument(
        "--from",
        dest="local",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="an address of this host to connect from, for more clients than one address has ports. Several times",
    )
    group.add_argument("--ca-file", metavar="FILE", help="trust the authorities in this file, instead of the system's")
    group.add_argument("--insecure", action="store_true", help="do not ask who issued the certificate")


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    from hybrid.cli.parser import number

    group = parser.add_argument_group("tokens")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with access tokens, one a line, dealt out to clients in turn; - is standard input (default: "
        "HYBRID_TOKEN, else tokens of the server's development issuer, else none)",
    )
    group.add_argument(
        "--subjects",
        type=number(1, 10_000, "N"),
        default=_SUBJECTS,
        metavar="N",
        help=f"so many tokens are taken of the development issuer (default: {_SUBJECTS})",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output")
    group.add_argument("--html", metavar="FILE", help="write a report, one file, with charts")


def run(options: argparse.Namespace) -> int:
    """Run it and tell."""
    from hybrid.cli.server import run_client
    from hybrid.errors import SettingsError

    if os.name != "posix":
        raise SettingsError(detail="The load needs Linux, macOS or another POSIX system.")
    plan = make_plan(options)
    for path in (options.json, options.html):
        _check_writable(path)
    return run_client(_bench(options, plan))


def make_plan(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for, as far as this host can carry it out. Raises SettingsError."""
    from hybrid.bench.host import check_host
    from hybrid.bench.plan import make

    duration_s = options.duration
    if duration_s is None:
        duration_s = _DURATION_S if options.publications is None else _DURATION_BY_COUNT_S
    plan = make(
        clients=options.clients,
        mix=options.mix,
        channels=options.channels,
        per_channel=options.per_channel,
        in_flight=options.in_flight,
        prefix=options.prefix,
        publishers=options.publishers,
        publish_over=options.publish_over,
        rate_per_s=options.rate,
        size=options.size,
        duration_s=duration_s,
        publications=options.publications or 0,
        is_connect_storm="connect" in options.storm,
        is_reconnect_storm="reconnect" in options.storm,
        connecting_at_once=options.connecting,
        connect_timeout_s=options.connect_timeout,
        is_rude=options.rude,
        drain_s=options.drain,
        processes=options.processes or (1 if options.clients < 2_000 else 2),
    )
    check_host(plan, options.local)
    return plan


async def _bench(options: argparse.Namespace, plan: Plan) -> int:
    import asyncio
    import signal

    from hybrid.bench.coordinator import BenchFailed, Coordinator
    from hybrid.bench.live import Live
    from hybrid.cli.server import say
    from hybrid.errors import SettingsError

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        endpoint = await _endpoint(options, stack)
        target = await _target(options, endpoint)
        await _check_server(endpoint)
        tokens = await _tokens(options, endpoint, plan)
        live = Live(sys.stderr, is_terminal=sys.stderr.isatty())
        coordinator = Coordinator(plan, target, tokens, pids=options.pid, watch=live)
        with suppress(NotImplementedError, ValueError):  # not the main thread
            loop.add_signal_handler(signal.SIGINT, coordinator.interrupt)
            stack.callback(loop.remove_signal_handler, signal.SIGINT)
        try:
            result = await coordinator.run()
        except BenchFailed as error:
            raise SettingsError(detail=str(error)) from None
        finally:
            live.close()
    if result.was_interrupted:
        say("hybrid: interrupted; what was measured until then:")
    _write(options, result)
    return result.exit_code


def _write(options: argparse.Namespace, result: Result) -> None:
    from hybrid.bench.report import report
    from hybrid.bench.words import text

    if options.json == "-":
        sys.stdout.write(result.to_json().decode())
    else:
        sys.stdout.write(text(result))
    makers: list[tuple[str | None, Callable[[], bytes]]] = [
        (None if options.json == "-" else options.json, result.to_json),
        (options.html, lambda: report(result).encode()),
    ]
    for path, make in makers:
        if path:
            with open(path, "wb") as file:
                file.write(make())


def _check_writable(path: str | None) -> None:
    """Before the run: it would be a pity behind it. Raises SettingsError."""
    from hybrid.errors import SettingsError

    if not path or path == "-":
        return
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise SettingsError(detail=f"{path} cannot be written: {error.strerror or error}.") from None


async def _endpoint(options: argparse.Namespace, stack: AsyncExitStack) -> Endpoint:
    import ssl

    from hybrid.client.doctor.certificate import unchecked_tls
    from hybrid.client.endpoint import Endpoint
    from hybrid.errors import SettingsError
    from hybrid.settings import client_environment

    tls = None
    if options.insecure and options.ca_file:
        raise SettingsError(detail="--insecure asks nobody, so --ca-file has no effect; give one of them.")
    if options.insecure:
        tls = unchecked_tls()
    elif options.ca_file:
        try:
            tls = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:
            raise SettingsError(
                detail=f"--ca-file {options.ca_file} cannot be used: {error.strerror or 'it holds no certificates'}."
            ) from None
    endpoint = Endpoint(options.url or client_environment().url, tls=tls)
    stack.push_async_callback(endpoint.close)
    await endpoint.open()
    return endpoint


async def _target(options: argparse.Namespace, endpoint: Endpoint) -> Target:
    """Where the load goes: the name is resolved once, for all clients. Raises Unreachable."""
    import asyncio
    import socket

    from hybrid.bench.messages import Target
    from hybrid.cli.server import unreachable

    try:
        found = await asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(endpoint, error.strerror or str(error)) from None
    return Target(
        host=endpoint.host,
        netloc=endpoint.netloc,
        path=endpoint.path,
        addresses=[(int(family), address[0], int(address[1])) for family, _, _, _, address in found],  # type: ignore[misc]
        is_secure=endpoint.is_secure,
        ca_file=options.ca_file or "",
        is_insecure=options.insecure,
        local_addresses=options.local,
    )


async def _check_server(endpoint: Endpoint) -> None:
    """One question before thousands. Raises HybridError, Unreachable."""
    from hybrid.cli.server import request

    await request(endpoint, "GET", "/v1/ping", {}, b"")


async def _tokens(options: argparse.Namespace, endpoint: Endpoint, plan: Plan) -> list[str]:
    """The tokens to deal out, none of which is ever shown; none at all for anonymous clients.

    Raises SettingsError, HybridError, Unreachable.
    """
    import asyncio

    from hybrid.bench.tokens import read_tokens
    from hybrid.cli.server import request_token, say
    from hybrid.client.credentials import is_token
    from hybrid.errors import SettingsError
    from hybrid.settings import client_environment

    if options.token_file:
        return read_tokens(options.token_file)
    given = client_environment().token
    if given:
        if not is_token(given):
            raise SettingsError(detail="HYBRID_TOKEN holds no token (RFC 6750, section 2.1).")
        return [given]
    # The first one alone: where there is no development issuer, one question is enough.
    subject = f"bench-{plan.run}"
    first = await request_token(endpoint, subject=f"{subject}-0")
    if first is None:
        say("hybrid: without tokens, since neither --token-file nor HYBRID_TOKEN gives one")
        return []
    count = min(options.subjects, max(1, plan.clients + plan.publishers))
    gate = asyncio.Semaphore(_MINTED_AT_ONCE)

    async def another(number: int) -> str:
        async with gate:
            answer = await request_token(endpoint, subject=f"{subject}-{number}")
        assert answer is not None, "the issuer was there a moment ago"
        return str(answer["access_token"])

    tokens = [str(first["access_token"]), *await asyncio.gather(*map(another, range(1, count)))]
    say(f"hybrid: {len(tokens)} tokens of the server's development issuer")
    lifetime_s = first.get("expires_in")
    needed_s = plan.duration_s + plan.drain_s
    if isinstance(lifetime_s, int | float) and lifetime_s < needed_s and not plan.publications:
        raise SettingsError(
            detail=f"The development issuer's tokens live for {lifetime_s:g} s, and this takes {needed_s:g} s; shorten "
            "--duration, or give tokens that live longer with --token-file."
        )
    return tokens
