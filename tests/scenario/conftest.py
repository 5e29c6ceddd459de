"""The matrix: every way a client can be carried, by both ways the server can hold a stream."""

from __future__ import annotations

import pytest

from tests.support.wire import TRANSPORTS
from tests.support.world import PIPES, Pipe


@pytest.fixture(params=[True, False], ids=["hand-off", "asgi"])
def handoff(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=PIPES, ids=str)
def pipe(request: pytest.FixtureRequest) -> Pipe:
    """A transport and its encoding, for hybrid's own client."""
    chosen: Pipe = request.param
    return chosen


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """A transport, for legs spoken by hand."""
    return str(request.param)
