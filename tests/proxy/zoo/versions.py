"""Which versions of the animals were measured, where the system's package manager knows."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tests.proxy.zoo.animals import Animal
from tests.proxy.zoo.animals.base import executable
from tests.proxy.zoo.animals.mitmproxy import CACHE


def of_animal(animal: Animal) -> str:
    """Names and versions of its programs; empty where it has none or nobody knows."""
    if animal.name.startswith("mitmproxy"):
        found = sorted((CACHE / "mitmproxy").glob("lib/python*/site-packages/mitmproxy-*.dist-info"))
        return " ".join(found[-1].name.removesuffix(".dist-info").split("-")) if found else ""
    return ", ".join(filter(None, map(_packaged, animal.needs)))


def of_machine() -> str:
    """What everything ran on."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux") if platform.system() == "Linux" else ""
    return f"{system or platform.system()}, Python {platform.python_version()}, Hypercorn {version('hypercorn')}"


@cache
def _packaged(name: str) -> str:
    path = executable(name)
    if path is None:
        return ""
    package = _said("dpkg", "-S", str(Path(path).resolve())).partition(":")[0]
    number = package and _said("dpkg-query", "-W", "-f", "${Version}", package)
    # "2:1.9.3-1+deb12u1" is Debian's name for 1.9.3.
    return f"{name} {number.rpartition(':')[2].partition('-')[0].partition('+')[0]}" if number else ""


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
