"""The JavaScript client through the zoo: a short course through the worst animals here, all of it by `make zoo`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.proxy.zoo.__main__ import chosen
from tests.proxy.zoo.animals import Absent
from tests.proxy.zoo.direct import WAYS
from tests.proxy.zoo.run import FULL, QUICK, Plan, run
from tests.support.http_issuer import http_issuer
from tests.support.nodes import AUDIENCE
from tests.support.redis_servers import redis_server

SHORT: Final = (
    ("chaos-mute-101", "node", {"sse"}),
    ("chaos-mute-101", "chromium", {"sse"}),
    ("chaos-dying-101", "node", {"sse"}),
    ("chaos-dying-101", "chromium", {"sse"}),
    ("chaos-idle-1s", "node", {"websocket", "sse", "longpoll"}),
    ("chaos-one-behind", "node", {"websocket", "sse", "longpoll"}),
)
"""Animal, client, and what may carry the session at the end."""
_AT_ONCE: Final = 3


Course = Callable[[str, str, Plan], Awaitable[dict[str, Any]]]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def course(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Course]:
    """Drive a client through an animal, on the module's Redis."""
    with http_issuer(AUDIENCE) as issuer:
        async with redis_server() as redis:

            async def drive(animal: str, client: str, plan: Plan) -> dict[str, Any]:
                folder = tmp_path_factory.mktemp(f"{animal}-{client}")
                return await run(WAYS[animal], client, folder, redis_url=redis.url, issuer=issuer, plan=plan)

            yield drive


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def short_courses(course: Course) -> AsyncIterator[dict[tuple[str, str], asyncio.Task[dict[str, Any]]]]:
    """All of them, some at once: they wait for most of their time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def drive(animal: str, client: str) -> dict[str, Any]:
        async with room:
            return await course(animal, client, QUICK)

    tasks = {(animal, client): asyncio.create_task(drive(animal, client)) for animal, client, _ in SHORT}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


def is_clean(result: dict[str, Any]) -> None:
    assert "error" not in result, result["error"]
    verdict = result["verdict"]
    broken = {what: verdict[what] for what in ("lost", "repeated", "reordered", "refused") if verdict[what]}
    assert not broken, verdict["findings"]
    assert result["is_delivered"]


@pytest.mark.parametrize(("animal", "client", "carriers"), SHORT, ids=[f"{a}-{c}" for a, c, _ in SHORT])
async def test_a_short_course(
    animal: str, client: str, carriers: set[str], short_courses: dict[tuple[str, str], asyncio.Task[dict[str, Any]]]
) -> None:
    try:
        result = await short_courses[animal, client]
    except Absent as error:
        pytest.skip(str(error))
    is_clean(result)
    exchanged = result["exchange"]
    assert exchanged["down"]["received"] == exchanged["up"]["received"] == QUICK.publications
    assert result["transport"] in carriers, result["trace"]


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("animal", "client"), [pytest.param(a.name, client, id=f"{a.name}-{client}") for a, client in chosen((), ())]
)
async def test_the_whole_course(animal: str, client: str, course: Course) -> None:
    if absent := WAYS[animal].missing():
        pytest.skip(f"needs {', '.join(absent)}, not found")
    try:
        result = await course(animal, client, FULL)
    except Absent as error:
        pytest.skip(str(error))
    is_clean(result)
    assert result["restart"]["before"] == result["restart"]["later"], "a restart was taken for a bad network"
    assert result["settled"]["changes"] <= 1
