"""Where the peers are installed: by their package managers, into a folder that git ignores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tests.proxy.zoo.animals.base import Absent
from tests.proxy.zoo.drivers.base import program
from tests.proxy.zoo.peers.setups import GO_TOOLS, HERE, MANIFEST, ROOT

CACHE: Final = ROOT / ".zoo"
MODULES: Final = CACHE / "npm" / "node_modules"
_SERVERS: Final = CACHE / "npm" / "servers"


def centrifugo() -> Path:
    """Its executable. Raises Absent."""
    found = CACHE / "go" / "centrifugo"
    if not found.exists():
        raise Absent("needs centrifugo, which could not be built")
    return found


def server(name: str) -> Path:
    """One of the servers written here, where Node finds the packages next to it."""
    return _SERVERS / name


async def install() -> list[str]:
    """Install what is not there in the pinned versions; what went wrong, one sentence each."""
    (CACHE / "npm").mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "servers", _SERVERS, dirs_exist_ok=True)
    wrong = []
    if not _is_current(MANIFEST, CACHE / "npm" / "package.json") or not MODULES.is_dir():
        for name in ("package.json", ".npmrc"):
            shutil.copy(HERE / name, CACHE / "npm")
        if not await _succeeds("npm", "install", "--silent", "--prefix", str(CACHE / "npm")):
            (CACHE / "npm" / "package.json").unlink()
            wrong.append("npm could not install the packages of package.json")
    if not _is_current(GO_TOOLS, CACHE / "go" / GO_TOOLS.name):
        (CACHE / "go").mkdir(exist_ok=True)
        if await _succeeds("go", "install", *GO_TOOLS.read_text().split(), GOBIN=str(CACHE / "go")):
            shutil.copy(GO_TOOLS, CACHE / "go")
        else:
            wrong.append("go could not build what go-tools.txt names")
    return wrong


def _is_current(manifest: Path, installed: Path) -> bool:
    return installed.exists() and installed.read_bytes() == manifest.read_bytes()


async def _succeeds(name: str, *arguments: str, **environment: str) -> bool:
    """Run it, with its output on the terminal; whether it was there and succeeded."""
    found = shutil.which(name)
    if found is None:
        return False
    async with program(found, *arguments, environment=environment, stdout=None, stderr=None) as process:
        return await process.wait() == 0
