"""A peer's own program as a server: its output goes into a file, and it is asked to end with SIGTERM."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.load import Failed
from tests.bench.peers.base import tail
from tests.bench.process import Running, on_core

START_MAX_S: Final = 20.0
_POLL_S: Final = 0.02


class Daemon(Running):
    """`collector` is an address that makes it collect its garbage and then answers."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        core: int | None,
        folder: Path,
        port: int,
        *,
        collector: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.address = ("127.0.0.1", port)
        self._collector = collector
        self._log = folder / "output.log"
        with on_core(core), self._log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,  # Ctrl-C is for us
            )
        super().__init__(name, process)
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    def collect(self) -> None:
        if self._collector is None:
            return
        try:
            with urllib.request.urlopen(self._collector, timeout=30) as answer:
                answer.read()
        except (OSError, urllib.error.URLError) as error:
            raise Failed(f"{self.name} did not collect its garbage: {error}") from error

    def _wait(self) -> None:
        end_s = time.monotonic() + START_MAX_S
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                raise Failed(f"{self.name} ended with {self._process.returncode}: {tail(self._log)}")
            try:
                socket.create_connection(self.address, timeout=1.0).close()
                return
            except OSError:
                time.sleep(_POLL_S)
        raise Failed(f"{self.name} does not listen after {START_MAX_S:.0f} s: {tail(self._log)}")
