"""The documents as a server gives them out: public, cacheable, small."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hybrid.specifications.schemas import FILES
from tests.support.bytewise import Answer, call
from tests.support.nodes import ROOT
from tests.support.server import RunningServer, running_server, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
DOCUMENTS = {
    "/v1/openapi.json": "openapi.json",
    "/v1/asyncapi.json": "asyncapi.json",
    **{f"/v1/schemas/{name}.json": f"schemas/{name}.json" for name in FILES},
}
SIZE_MAX_BYTES = 150_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for()) as running:
        yield running


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_is_the_one_in_docs_and_is_kept(server: RunningServer, path: str) -> None:
    answer = await call(server, "GET", path)
    assert answer.status == 200
    assert answer.json() == json.loads((ROOT / "docs" / DOCUMENTS[path]).read_text())
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["vary"] == "Origin"
    assert len(answer.body) < SIZE_MAX_BYTES
    expected = "application/schema+json" if "/schemas/" in path else "application/json"
    assert answer.headers["content-type"] == expected


async def conditional(server: RunningServer, tag: str) -> Answer:
    return await call(server, "GET", "/v1/openapi.json", {"If-None-Match": tag})


async def test_who_has_it_already_gets_nothing_but_that(server: RunningServer) -> None:
    tag = (await call(server, "GET", "/v1/openapi.json")).headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await conditional(server, known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert answer.headers["cache-control"] == "public, max-age=3600"
    for other in ('"other"', tag.strip('"'), ""):
        assert (await conditional(server, other)).status == 200


async def test_a_head_is_without_the_body(server: RunningServer) -> None:
    got, head = [await call(server, method, "/v1/openapi.json") for method in ("GET", "HEAD")]
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(got.body))
    assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("name", ["push", "other.json", "", "..%2Fopenapi.json", "push.json/", "%FF.json"])
async def test_a_schema_that_is_not_there(server: RunningServer, name: str) -> None:
    answer = await call(server, "GET", f"/v1/schemas/{name}")
    assert (answer.status, answer.name) == (404, "not_found")


async def test_other_pages_are_refused_as_everywhere(server: RunningServer) -> None:
    answer = await call(server, "GET", "/v1/openapi.json", {"Origin": "https://evil.example"})
    assert (answer.status, answer.name) == (403, "origin_refused")
