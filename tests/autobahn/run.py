"""Drives the cases of the Autobahn|Testsuite at an echo server, and counts what came of them.

The runner is kosoku: the suite's own case files without the Python 2 that wstest needs. It changes its process (a
patched `binascii`, its own `autobahn`), so it has one to itself, as the server has.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import Process

ROOT: Final = Path(__file__).parents[2]
GOOD: Final = frozenset(("OK", "NON-STRICT", "INFORMATIONAL"))
RUNNERS_OWN: Final = ("12.*.1", "13.*.1")
"""Cases with messages of 16 bytes, in which kosoku 0.1.0 ends with an error of its own at any server (it hashes a text
where bytes are needed). wstest on Python 2 runs them, and hybrid passes them."""
_RUN_MAX_S: Final = 3_600.0
_START_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """What came of one case. `verdict` is the suite's: of the messages, or of the close where only that is not good."""

    id: str
    verdict: str
    reason: str

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD


def runner() -> str:
    """The path of kosoku, which is beside this Python; a test skips where it is missing."""
    found = shutil.which("kosoku", path=str(Path(sys.executable).parent)) or shutil.which("kosoku")
    if found is None:
        pytest.skip("needs kosoku, which was not found. `make .venv/.tested` installs it")
    return found


async def run(server: str, include: Sequence[str], exclude: Sequence[str] = (), *, at_once: int = 4) -> list[Case]:
    """Start a server of `tests.autobahn.echo` and run cases against it; `include` are numbers or globs (`5.*`).

    Raises RuntimeError with what was written when there is no report.
    """
    kosoku = runner()
    folder = Path(tempfile.mkdtemp(prefix="hybrid-autobahn-"))
    command = [sys.executable, "-m", "tests.autobahn.echo", server]
    echo = Process("echo", command, folder, {"PYTHONPATH": str(ROOT)})
    echo.launch()
    try:

        async def has_said() -> bool:
            return echo.output().strip().isdigit()

        await echo.until(has_said, "listening", _START_MAX_S)
        options = ["-p", str(at_once), "-o", str(folder / "report")]
        for flag, patterns in (("-i", include), ("-x", [*exclude, *RUNNERS_OWN])):
            for pattern in patterns:
                options += [flag, pattern]
        address = f"ws://127.0.0.1:{echo.output().strip()}"
        driver = Process("kosoku", [kosoku, address, *options], folder)
        driver.launch()

        async def has_ended() -> bool:
            return not driver.is_running

        try:
            async with asyncio.timeout(_RUN_MAX_S):
                while not await has_ended():  # noqa: ASYNC110 -- a pid tells nobody of its end
                    await asyncio.sleep(0.05)
        finally:
            driver.kill()
        if not (folder / "report" / "index.json").exists():
            raise RuntimeError(f"no report\n{driver.report()}\n{echo.report()}")
        assert echo.is_running, echo.report()
        return _read(folder / "report")
    finally:
        echo.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> list[Case]:
    [cases] = json.loads((folder / "index.json").read_text()).values()
    made = []
    for id, told in cases.items():
        is_close = told["behavior"] in GOOD and told["behaviorClose"] not in GOOD
        verdict = told["behaviorClose"] if is_close else told["behavior"]
        reason = ""
        if verdict not in GOOD:
            report = json.loads((folder / told["reportfile"]).read_text())
            reason = report["resultClose" if is_close else "result"]
        made.append(Case(id, verdict, reason))
    return made
