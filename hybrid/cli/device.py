"""The device flow in a terminal: where to go, what to type there, and how long there is."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any


async def token_by_device(options: argparse.Namespace) -> dict[str, Any]:
    """The token answer after a person has signed in elsewhere. Raises HybridError, SettingsError, Unreachable."""
    from hybrid.cli.server import say
    from hybrid.client import device

    issuer = await device.discover(options.issuer or await _issuer_of_server(options))
    codes = await device.begin(issuer, options.client_id, options.scope)
    say(f"hybrid: to sign in, open\n\n  {codes.verification_uri}\n\nand enter the code\n\n  {codes.user_code}\n")
    if codes.verification_uri_complete:
        say(f"(or open {codes.verification_uri_complete}, where it is filled in)")
    say(f"hybrid: waiting, for {_duration(codes.expires_in_s)} at most; Ctrl-C ends it")
    counting = asyncio.create_task(_count_down(codes.expires_in_s)) if sys.stderr.isatty() else None
    try:
        return await device.wait(issuer, options.client_id, codes)
    finally:
        if counting is not None:
            counting.cancel()
            sys.stderr.write("\r\x1b[K")  # the line is gone, whatever comes next
            sys.stderr.flush()


async def _issuer_of_server(options: argparse.Namespace) -> str:
    from hybrid.cli.server import make_endpoint
    from hybrid.client import device
    from hybrid.errors import SettingsError

    server = make_endpoint(options)
    await server.open()
    try:
        issuers = await device.find_issuers(server)
    finally:
        await server.close()
    if len(issuers) != 1:
        named = ", ".join(device.fit(issuer) for issuer in issuers) or "none"
        raise SettingsError(detail=f"Choose the server's issuer by --issuer; it takes the tokens of: {named}.")
    return issuers[0]


async def _count_down(seconds: float) -> None:
    """Rewrite one line every second, for a person who watches."""
    left = int(seconds)
    while left > 0:
        sys.stderr.write(f"\rhybrid: waiting, {left // 60}:{left % 60:02d} left ")
        sys.stderr.flush()
        await asyncio.sleep(1)
        left -= 1


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes > 1 else f"{seconds:g} seconds"
