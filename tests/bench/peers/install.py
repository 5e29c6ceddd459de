"""Where the peers are had from: their package managers, into a folder that git ignores."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.peers.base import Absent

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
CACHE: Final = ROOT / ".zoo" / "bench"
NPM: Final = CACHE / "npm"
PYTHON: Final = CACHE / "python"
GO: Final = CACHE / "go"
ZOO_GO: Final = ROOT / ".zoo" / "go"
"""Where `make zoo-peers` has what it builds."""
REQUIREMENTS: Final = "tests/bench/peers/requirements.txt"
_CENTRIFUGO: Final = HERE / "go-tools.txt"
_HUB: Final = HERE / "mercure_hub"
_NCHAN: Final = CACHE / "nchan"
_MODULE: Final = "usr/lib/nginx/modules/ngx_nchan_module.so"
_PACKAGE: Final = "libnginx-mod-nchan"


def built(program: str) -> str:
    """The version of the module that it was built from, if that was here; to be put behind what it says itself."""
    if not Path(program).is_relative_to(CACHE):
        return ""
    versions = {
        "centrifugo": _CENTRIFUGO.read_text().split()[0].rpartition("@")[2],
        "mercure": re.findall(r"dunglas/mercure (\S+)", (_HUB / "go.mod").read_text())[0],
    }
    return f", built from {versions[Path(program).name]}"


def nchan_module() -> Path:
    """The module for nginx: the system's, else the one unpacked here. Raises Absent."""
    for root in (Path("/"), _NCHAN):
        if (root / _MODULE).exists():
            return root / _MODULE
    raise Absent(f"needs Nchan, which was not found: on Debian, apt install nginx {_PACKAGE}")


def nchan_version() -> str:
    """Debian's number of the module that would be loaded. Raises Absent."""
    if nchan_module().is_relative_to(_NCHAN):
        return (_NCHAN / "version").read_text().strip()
    told = _output("dpkg-query", "--show", "--showformat=${Version}", _PACKAGE)
    return told or "of unknown version"


def npm() -> bool:
    """Socket.IO; whether it is there."""
    NPM.mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "servers", NPM / "servers", dirs_exist_ok=True)
    if _is_current(HERE / "package.json", NPM / "package.json") and (NPM / "node_modules").is_dir():
        return True
    shutil.copy(HERE / ".npmrc", NPM)
    shutil.copy(HERE / "package.json", NPM)
    if _succeeds("npm", "install", "--silent", "--prefix", str(NPM)):
        return True
    (NPM / "package.json").unlink()
    return False


def python() -> bool:
    """python-socketio with uvicorn, in an environment of their own; whether it is there."""
    manifest, installed = ROOT / REQUIREMENTS, PYTHON / "requirements.txt"
    if _is_current(manifest, installed):
        return True
    python = str(PYTHON / "bin" / "python")
    quiet = ("--quiet", "--disable-pip-version-check")
    made = _succeeds(sys.executable, "-m", "venv", str(PYTHON))
    if made and _succeeds(python, "-m", "pip", "install", *quiet, "-r", str(manifest)):
        shutil.copy(manifest, installed)
        return True
    return False


def centrifugo() -> bool:
    """Built from its Go module; whether it is there. One that `make zoo-peers` has built is taken."""
    for folder in (GO, ZOO_GO):
        if _is_current(_CENTRIFUGO, folder / _CENTRIFUGO.name) and (folder / "centrifugo").exists():
            return True
    GO.mkdir(parents=True, exist_ok=True)
    if _succeeds("go", "install", *_CENTRIFUGO.read_text().split(), GOBIN=str(GO)):
        shutil.copy(_CENTRIFUGO, GO)
        return True
    return False


def mercure() -> bool:
    """Built from its Go modules; whether it is there."""
    if _is_current(_HUB / "go.mod", GO / "mercure_hub" / "built") and (GO / "mercure").exists():
        return True
    source = GO / "mercure_hub"
    shutil.copytree(_HUB, source, dirs_exist_ok=True)
    go = ("go", "-C", str(source))
    if _succeeds(*go, "mod", "tidy") and _succeeds(*go, "build", "-o", str(GO / "mercure"), "."):
        shutil.copy(_HUB / "go.mod", source / "built")
        return True
    return False


def nchan() -> bool:
    """Debian's package, unpacked without installing it; whether it is there. The system's is taken if it has one."""
    try:
        nchan_module()
    except Absent:
        pass
    else:
        return True
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    _NCHAN.mkdir(parents=True, exist_ok=True)
    for old in _NCHAN.glob("*.deb"):
        old.unlink()
    # apt drops its rights for a download, and may not write where only its caller can.
    if not _succeeds("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", _PACKAGE, cwd=_NCHAN):
        return False
    packages = list(_NCHAN.glob("*.deb"))
    if not packages or not _succeeds("dpkg-deb", "-x", str(packages[0]), str(_NCHAN)):
        return False
    (_NCHAN / "version").write_text(_output("dpkg-deb", "--field", str(packages[0]), "Version"))
    return True


INSTALLERS: Final[dict[str, Callable[[], bool]]] = {
    "Socket.IO": npm,
    "Socket.IO, uWebSockets.js": npm,
    "python-socketio": python,
    "Centrifugo": centrifugo,
    "Mercure": mercure,
    "Mercure, Bolt": mercure,
    "Nchan": nchan,
}
"""By the name of the peer; the others need nothing."""


def _is_current(manifest: Path, installed: Path) -> bool:
    return installed.exists() and installed.read_bytes() == manifest.read_bytes()


def _succeeds(name: str, *arguments: str, cwd: Path | None = None, **environment: str) -> bool:
    """Run it, with its output on the terminal's stderr; whether it was there and succeeded."""
    found = shutil.which(name)
    if found is None:
        return False
    wanted = {**os.environ, **environment}
    return subprocess.run([found, *arguments], cwd=cwd, env=wanted, stdout=sys.stderr, check=False).returncode == 0


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
