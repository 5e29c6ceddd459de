"""The matrix: every way a client can be carried, by both ways the server can hold a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from hybrid.web import launcher
from tests.support.asgi_servers import Serve, serve_uvicorn
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.server import Backend, Chosen
from tests.support.specified import as_specified  # noqa: F401 - for every test here
from tests.support.wire import TRANSPORTS
from tests.support.world import PIPES, Pipe

WAYS = {
    "hand-off": (True, "", 1),
    "asgi": (False, "", 1),
    "redis": (True, "redis", 1),
    "two nodes": (True, "redis", 2),
    "uvicorn": (True, "", 1),
}
"""How the server holds a stream; where the channels are; and over how many nodes connections go in turn."""
SERVERS: dict[str, Serve] = {"uvicorn": serve_uvicorn}
"""Who serves in these ways; in the others Hypercorn does. Granian, which wants a process, is in tests/web."""
EVERYWHERE = ("test_order.py", "test_moves.py")
"""Scenarios that run under every server each time; the others do in `make slow`."""


ALIKE = {"one_node": ("two nodes",), "memory": ("redis", "two nodes")}
"""Scenarios marked so do not run in these ways; each mark gives its reason."""


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [
        item
        for item in items
        for name, ways in ALIKE.items()
        if item.get_closest_marker(name) and getattr(item, "callspec", None) and _way(item) in ways
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if _is_seen_elsewhere(item):
            item.add_marker(pytest.mark.slow)


def _is_seen_elsewhere(item: pytest.Item) -> bool:
    """Whether what this case would show is shown by others that run every time."""
    if not getattr(item, "callspec", None):
        return False
    way = _way(item)
    if way in SERVERS:
        return item.path.name not in EVERYWHERE or "msgpack" in item.name
    # Two nodes do all that one does on Redis, and more; one alone is for scenarios that can do with no other.
    one_node_of_redis = way == "redis" and not item.get_closest_marker("one_node")
    # How frames are written and what carries them, or where logs are, know nothing of each other.
    is_other_frame = "msgpack" in item.name and way in ("asgi", "two nodes")
    # Nor does it matter to a poll how a stream would be held.
    return one_node_of_redis or is_other_frame or (way == "asgi" and "longpoll" in item.name)


def _way(item: pytest.Item) -> str:
    """How a scenario is to run; empty where it does not say."""
    return next((name for name in WAYS if name in item.name), "")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_redis() -> AsyncIterator[RedisServer]:
    """One server for all scenarios; each has keys of its own in it."""
    async with redis_server() as server:
        yield server


@pytest.fixture(params=WAYS)
def handoff(request: pytest.FixtureRequest) -> Iterator[bool]:
    handoff, broker, nodes = WAYS[request.param]
    url = request.getfixturevalue("one_redis").url if broker else ""
    Chosen.backend = Backend(url, nodes)
    Chosen.serve = staticmethod(SERVERS.get(request.param, launcher.serve))
    yield handoff
    Chosen.backend = Backend()
    Chosen.serve = staticmethod(launcher.serve)


@pytest.fixture(params=PIPES, ids=str)
def pipe(request: pytest.FixtureRequest) -> Pipe:
    """A transport and its encoding, for hybrid's own client."""
    chosen: Pipe = request.param
    return chosen


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """A transport, for legs spoken by hand."""
    return str(request.param)
