"""The public surface: adding to it is a decision, taking from it a breaking change."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hybrid
import hybrid.client


def test_the_public_names_are_these() -> None:
    assert hybrid.__all__ == [
        "Appended",
        "Call",
        "Client",
        "ConnectedSession",
        "Grant",
        "Hybrid",
        "HybridError",
        "HybridMiddleware",
        "Message",
        "Position",
        "Principal",
        "Publication",
        "Settings",
        "__version__",
        "create_app",
        "load_settings",
    ]


def test_each_is_what_its_home_defines() -> None:
    from hybrid.client.client import Client
    from hybrid.errors import HybridError
    from hybrid.model import Position, Publication
    from hybrid.settings import Settings, load
    from hybrid.web.app import create_app

    assert hybrid.Client is Client
    assert hybrid.HybridError is HybridError
    assert hybrid.Position is Position
    assert hybrid.Publication is Publication
    assert hybrid.Settings is Settings
    assert hybrid.load_settings is load
    assert hybrid.create_app is create_app


def test_every_name_can_be_had() -> None:
    for name in hybrid.__all__:
        assert getattr(hybrid, name), name


def test_the_clients_names_are_these() -> None:
    assert hybrid.client.__all__ == [
        "Client",
        "HistoryPage",
        "LegEvent",
        "ReceivedPublication",
        "Stats",
        "Subscription",
        "Timing",
        "Unreachable",
    ]
    assert all(hasattr(hybrid.client, name) for name in hybrid.client.__all__)


def test_other_names_do_not_exist_and_all_of_them_are_listed() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hybrid.nothing  # noqa: B018
    assert set(hybrid.__all__) <= set(dir(hybrid))


def test_the_version_is_that_of_the_package() -> None:
    with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["version"] == hybrid.__version__


def test_importing_hybrid_loads_none_of_its_dependencies() -> None:
    code = (
        "import sys, hybrid, hybrid.cli; hybrid.cli.build_parser();"
        "print([m for m in ('quart', 'hypercorn', 'httpx2', 'websockets', 'msgspec', 'authlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(hybrid.__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"
