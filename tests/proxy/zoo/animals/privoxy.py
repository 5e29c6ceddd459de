"""Privoxy: a forward proxy that edits what passes, as content filters and virus scanners do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Animal, Origin, Release, Route
from tests.proxy.zoo.animals.daemons import HOST, daemon, required, through_proxy
from tests.proxy.zoo.animals.urls import plain_url
from tests.support.processes import free_port

_CONFIGURATION: Final = """\
confdir {folder}
logdir {folder}
templdir /etc/privoxy/templates
logfile privoxy.log
debug 1
debug 4096
debug 8192
actionsfile zoo.action
filterfile zoo.filter
listen-address {host}:{port}
keep-alive-timeout 5
socket-timeout 300
toggle 1
"""
# The word occurs nowhere: a filter has to read the whole body all the same.
_FILTER: Final = "FILTER: zoo Looks for a word\ns@nothing-ever-reads-like-this@@g\n"


def _privoxy(actions: str) -> Release:
    @asynccontextmanager
    async def release(origin: Origin, scratch: Path) -> AsyncIterator[Route]:
        port = free_port()
        configuration = scratch / "config"
        configuration.write_text(_CONFIGURATION.format(folder=scratch, host=HOST, port=port))
        (scratch / "zoo.action").write_text(actions and f"{{ {actions} }}\n/\n")
        (scratch / "zoo.filter").write_text(_FILTER)
        arguments = [required("privoxy"), "--no-daemon", str(configuration)]
        async with daemon("privoxy", arguments, scratch, port, probe=through_proxy(origin)):
            yield Route(plain_url(origin), proxy=f"http://{HOST}:{port}")

    return release


_NEEDS: Final = ("privoxy",)
ANIMALS: Final = (
    Animal(
        "privoxy-plain",
        "A forward proxy that lets upgrades through and swallows what then goes up; streams pass.",
        _NEEDS,
        _privoxy(""),
    ),
    Animal(
        "privoxy-filter",
        "A content filter that reads every answer to its end first: streams come at their close, upgrades never.",
        _NEEDS,
        _privoxy("+filter{zoo} +force-text-mode"),
    ),
    Animal(
        "privoxy-1.0",
        "A forward proxy that speaks HTTP/1.0 both ways, and swallows what goes up behind an upgrade.",
        _NEEDS,
        _privoxy("+downgrade-http-version"),
    ),
)
