"""What every peer is: how it is had, how it is started, and how it is spoken to."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from joserfc import jwt
from joserfc.jwk import OctKey

from tests.bench.dialects import Dialect, Publishing
from tests.bench.process import Running

HOST: Final = "bench.test"
ROOM: Final = "room"
ISSUER: Final = "http://issuer.bench.test"
AUDIENCE: Final = f"http://{HOST}"
TOKEN_S: Final = 36_000
HEARTBEAT_S: Final = 600
"""Longer than any part of a run: clients of the load never answer a heartbeat, so none is sent to those who must."""


class Absent(Exception):
    """The machine has not what a peer needs. The text says what to install."""


class Peer(ABC):
    """One system, set up as its documentation advises. Made once for a run, started many times.

    `says` is for the reader of the table: how it is set up, and what a client shows. `sources` are the pages that this
    was taken from. `cannot` says what is not measured because the peer does not have it.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    sources: ClassVar[tuple[str, ...]]
    cannot: ClassVar[str] = ""
    dialects: ClassVar[tuple[Dialect, ...]]
    publishing: ClassVar[Publishing]

    def __init__(self) -> None:
        self.secret: Final = secrets.token_hex(32)

    @abstractmethod
    def version(self) -> str:
        """Which version would run. Raises Absent."""

    @abstractmethod
    def start(self, core: int | None, folder: Path) -> Running:
        """Run it on that core, with an empty folder of its own. Raises Failed when it does not come to listen."""

    def subscribers(self, count: int) -> list[str]:
        """A token for each of so many clients; here JSON Web Tokens signed with HS256."""
        return [self._mint(f"user-{number}") for number in range(count)]

    def publishers(self, count: int) -> list[str]:
        """A token for each of so many connections that publish."""
        return [self._mint(f"publisher-{number}") for number in range(count)]

    def _mint(self, subject: str, **more: object) -> str:
        now_s = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now_s, "exp": now_s + TOKEN_S, **more}
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.secret))


def executable(name: str, hint: str, *places: Path) -> str:
    """The path of a program: in one of these folders, on the PATH, or where Debian keeps daemons. Raises Absent."""
    found = next((str(place / name) for place in places if (place / name).exists()), None)
    found = found or shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
    if found is None:
        raise Absent(f"needs {name}, which was not found: {hint}")
    return found


def told(*command: str) -> str:
    """What a program prints, on either output. Raises Absent when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise Absent(f"needs {Path(command[0]).name}, which does not run: {error}") from error
    return (done.stdout + done.stderr).strip()


def tail(path: Path, lines: int = 8) -> str:
    """The end of a log, on one line."""
    return " | ".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""
