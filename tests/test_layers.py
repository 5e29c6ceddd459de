"""Imports point one way, and every foreign library has one home. The drawing stands in docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "hybrid"
LEAVES = {"model", "errors", "limits", "clock", "counts", "logs", "cancelling"}
PACKAGES = {
    "protocol",
    "auth",
    "broker",
    "engine",
    "links",
    "transports",
    "tracing",
    "client",
    "web",
    "embed",
    "cli",
    "bench",
    "hooks",
    "specifications",
    "top",
}

# Which part may import which; the leaves are open to all, except that `protocol` takes neither the clock nor tasks.
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "limits": set(),
    "clock": set(),
    "counts": set(),
    "cancelling": set(),
    "logs": set(),
    "errors": set(),
    "settings": {"settings"},
    "settings_page": {"settings"},
    "protocol": {"protocol"},
    "auth": {"auth"},
    "broker": {"broker", "protocol", "auth.tickets", "auth.revocation"},
    "specifications": {"specifications", "protocol", "hooks.messages"},
    "engine": {"engine", "protocol", "broker.base", "auth"},
    "links": {"links", "engine.link"},
    "transports": {"transports", "specifications", "links", "engine", "protocol", "auth", "broker.base"},
    "tracing": {"tracing", "transports", "engine", "protocol", "broker.base"},
    "hooks": {"hooks", "auth.channels", "auth.grants", "auth.hooks", "engine.calls", "broker.base"},
    "web": {"web", "tracing", "transports", "engine", "protocol", "broker", "auth", "hooks", "links", "settings"},
    "client": {"client", "protocol"},
    "embed": {"embed", "web", "transports", "engine", "protocol", "broker.base", "auth", "client", "settings"},
    "testing": {"embed"},
    "top": {"top", "client", "protocol"},
    "cli": {"cli", "client", "bench", "top", "web", "settings", "settings_page", "protocol"},
    "bench": {"bench", "client", "protocol"},
    "asgi": {"web", "settings"},
    "__main__": {"cli"},
    "__init__": {"client", "web", "settings", "embed", "broker.base", "engine.calls"},
}

HOMES: dict[str, set[str]] = {
    "quart": {"web", "embed"},
    "werkzeug": {"web"},
    "hypercorn": {"web/launcher.py", "links/hypercorn.py", "links/hypercorn_requests.py"},
    "uvicorn": {"links/uvicorn.py"},
    "authlib": {"auth"},
    "joserfc": {"auth"},
    "httpx2": {"auth", "client", "cli", "hooks/post.py"},
    "anyio": {"cancelling.py"},
    "redis": {"broker/redis"},
    "websockets": {"links", "client"},
    "httptools": {"links/head.py"},
    "psutil": {"web/feed.py", "web/metrics", "bench/server.py"},
    "prometheus_client": {"web/metrics/text.py", "top/reading.py"},
    "opentelemetry": {"tracing"},
    "uvloop": {"web/launcher.py"},
}


def sources() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "_static" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            yield node.module
            if node.module in {"hybrid", *(f"hybrid.{package}" for package in PACKAGES)}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def is_allowed(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


def breaches(path: Path) -> list[str]:
    part = part_of(path)
    found = []
    for module in imports(path):
        if not module.startswith("hybrid."):
            continue
        target = module.removeprefix("hybrid.")
        if target in PACKAGES and part != "__init__":
            continue  # `from hybrid.package import module` is judged by the module
        top = target.split(".")[0]
        if top in LEAVES or target == "__version__":
            if part == "protocol" and top in {"clock", "cancelling"}:
                found.append(module)
            if part in LEAVES and top not in {"model", part}:
                found.append(module)
        elif part in LEAVES or not is_allowed(target, MAY_IMPORT[part]):
            found.append(module)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    assert breaches(path) == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_foreign_library_has_one_home(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for module in imports(path):
        homes = HOMES.get(module.split(".")[0])
        if homes is not None:
            assert any(relative == home or relative.startswith(home + "/") for home in homes), f"{relative}: {module}"


def test_protocol_is_sans_io() -> None:
    """No await, no clock, nothing but the standard library's pure parts and msgspec."""
    forbidden = {"asyncio", "socket", "time", "logging", "random", "threading", "selectors", "os", "ssl"}
    for path in (ROOT / "protocol").glob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree)), path
        assert not forbidden & {module.split(".")[0] for module in imports(path)}, path


def test_the_drawing_would_notice(tmp_path: Path) -> None:
    """The check can fail: a module that breaks the rule is found."""
    broken = ROOT / "protocol" / "codec.py"
    source = broken.read_text() + "\nfrom hybrid.engine.hub import Hub\n"
    tree_modules = [
        node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module
    ]
    assert "hybrid.engine.hub" in tree_modules
    assert not is_allowed("engine.hub", MAY_IMPORT["protocol"])
