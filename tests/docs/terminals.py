"""The terminals of somebody who follows a page: one to type in, and one for each command that goes on."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
import sysconfig
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.docs.snippets import Block
from tests.support.nodes import ROOT
from tests.support.processes import Process, free_port, program

PATIENCE_S: Final = 40.0
_PORTS: Final = re.compile(r"(?<=127\.0\.0\.1:)(8000|8001|6379)\b|(?<=--port )(8000|8001|6379)\b")
# As installed: `hybrid` is on the path, of this checkout. A stream that would go on for ever is left after a moment,
# and a person's curl has no proxy for the loopback.
_PROFILE: Final = """
[ -n "${INSTALLED-}" ] || hybrid() { "$PYTHON" -m hybrid "$@"; }
python3() { "$PYTHON" "$@"; }
pip() { "$PYTHON" -m pip "$@"; }
curl() { if [ "$1" = -N ]; then command curl -sS --max-time 1 "$@" || [ $? = 28 ]; else command curl "$@"; fi; }
export -f python3 pip curl
[ -n "${INSTALLED-}" ] || export -f hybrid
set -eu
"""
_DONE: Final = "---- done"
_LEFT: Final = "---- left"  # what runs in the background keeps the output open, so its end tells nothing


class Terminals:
    """What is typed and what runs, in one folder. The ports that a page names are free ones here."""

    def __init__(self, folder: Path, is_bare: bool = False) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in ("8000", "8001", "6379")}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HYBRID_", "OTEL_"))},
            "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_PROXY": "127.0.0.1",
            "HYBRID_PORT": str(self.ports["8000"]),
            "HYBRID_URL": self.here("http://127.0.0.1:8000"),
        }
        self.running: list[tuple[Block | None, Process]] = []
        self._number = 0
        if is_bare:
            self._bare()
        (folder / "docs").symlink_to(ROOT / "docs")
        self._shell: asyncio.subprocess.Process | None = None

    def _bare(self) -> None:
        """A machine on which the page still has to install hybrid: what it needs is there, so that it is quick."""
        venv.create(self.folder / ".venv", with_pip=True)
        python = self.folder / ".venv" / "bin" / "python"
        [packages] = (self.folder / ".venv" / "lib").glob("python*/site-packages")
        (packages / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.folder)
        for name in ("hybrid", "static"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
        self.environment |= {"PYTHON": str(python), "PYTHONPATH": "", "PYTHONSAFEPATH": "1", "PATH": path}
        self.environment["INSTALLED"] = "yes"

    def here(self, text: str) -> str:
        """A text of a page with the ports of this run."""
        return _PORTS.sub(lambda match: str(self.ports[match[0]]), text)

    async def follow(self, block: Block) -> str:
        """Do what a block says; what it printed, or nothing where it runs on. Raises AssertionError with the place."""
        for name in block.needs:
            program(name)
        if block.stops:
            await self.stop()
        text = self.here(block.text)
        if block.runs_on:
            await self.start(text, block.until, block)
            return ""
        said = await self._type(text, block)
        for words in block.says:
            assert self.here(words) in said, f"{block.place}: {words!r} is not in\n{said}"
        return said

    async def start(self, script: str, until: str | None, block: Block | None = None) -> Process:
        """A further terminal, in which this runs on."""
        self._number += 1
        terminal = Process(f"terminal{self._number}", ["bash", "-c", _PROFILE + script], self.folder, self.environment)
        terminal.launch()
        self.running.append((block, terminal))
        if until is not None:
            await self._until_said(terminal, until)
        return terminal

    async def _until_said(self, terminal: Process, words: str) -> None:
        async def said() -> bool:
            return self.here(words) in terminal.output()

        await terminal.until(said, f"heard to say {words!r}", max_s=PATIENCE_S)

    async def check(self) -> None:
        """What runs on has said, or says soon, what its page promises."""
        for block, terminal in self.running:
            for words in block.says if block else ():
                await self._until_said(terminal, words)

    async def stop(self) -> None:
        """Ctrl-C in all terminals in which something runs."""
        await self.check()
        for _, terminal in reversed(self.running):
            if terminal.is_running:
                os.killpg(terminal.pid, signal.SIGINT)
        for _, terminal in self.running:
            end = asyncio.get_running_loop().time() + 15
            while terminal.is_running and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 -- a pid tells nobody
                await asyncio.sleep(0.02)
            self._end(terminal)
        self.running.clear()

    async def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        for _, terminal in self.running:
            self._end(terminal)
        if self._shell is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
            await self._shell.communicate()

    @staticmethod
    def _end(terminal: Process) -> None:
        if terminal.is_running:
            os.killpg(terminal.pid, signal.SIGKILL)
            terminal.kill()

    async def _type(self, text: str, block: Block) -> str:
        """In the one shell of the page, so that variables and the folder stay. A failing command fails the block."""
        if self._shell is None:
            self._shell = await asyncio.create_subprocess_exec(
                *("bash", "--noprofile", "--norc"),
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            await self._write(f"trap \"echo '{_LEFT}'\" EXIT\n{_PROFILE}")
        # `eval` reads the whole block first; what it runs cannot read the rest of what is typed.
        await self._write(f"eval {shlex.quote(text)} </dev/null\necho '{_DONE}'\n")
        assert self._shell.stdout is not None
        said = ""
        try:
            async with asyncio.timeout(PATIENCE_S * (10 if block.is_slow else 1)):
                while f"{_DONE}\n" not in said:
                    more = await self._shell.stdout.read(65_536)
                    said += more.decode(errors="replace")
                    has_ended = not more or f"{_LEFT}\n" in said
                    assert not has_ended, f"{block.place} failed:\n{said}\n{self._report()}"
        except TimeoutError:
            raise AssertionError(f"{block.place} did not end:\n{said}\n{self._report()}") from None
        return said.replace(f"{_DONE}\n", "")

    async def _write(self, text: str) -> None:
        assert self._shell is not None
        assert self._shell.stdin is not None
        self._shell.stdin.write(text.encode())
        await self._shell.stdin.drain()

    def _report(self) -> str:
        return "\n".join(terminal.report() for _, terminal in self.running)


@asynccontextmanager
async def terminals(folder: Path, is_bare: bool = False) -> AsyncIterator[Terminals]:
    """Terminals of a page, all of which are closed behind it."""
    if not all(shutil.which(tool) for tool in ("bash", "curl")):
        pytest.skip("needs bash and curl: apt install bash curl")
    opened = Terminals(folder, is_bare)
    try:
        yield opened
        await opened.check()
    finally:
        await opened.close()
