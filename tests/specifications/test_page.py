"""The examples of docs/http-api.md, run by a shell as they stand; what comes back is what the documents say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.grants import MANAGING_SCOPES, REVOKE_SCOPE
from hybrid.protocol.routes import ROUTES
from hybrid.protocol.routes.shapes import PROBLEM
from hybrid.settings import Namespace
from hybrid.specifications.page import curl, describe
from tests.support.server import RunningServer, running_server, settings_for
from tests.support.specified import answer_validator

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
NAMESPACES = {"default": Namespace("default"), "chat": Namespace("chat", presence=True)}


async def shell(server: RunningServer, line: str) -> tuple[int, str, str]:
    """The status, media type and body that a line of the page brings."""
    token = server.token(scope=" ".join((FULL_SCOPE, REVOKE_SCOPE, *MANAGING_SCOPES)))
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        line + " -w '\\n%{http_code} %{content_type}'",
        env={"PATH": os.environ["PATH"], "URL": server.url, "TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, error
    body, _, last = out.decode().rpartition("\n")
    status, _, media_type = last.partition(" ")
    return int(status), media_type, body


def test_every_example_of_the_page_is_one_of_a_route() -> None:
    found = re.findall(r"```sh\n(curl .+)\n```", describe())
    assert found == [line for route in ROUTES if (line := curl(route))]
    assert len(found) > len(ROUTES) - 5


async def test_every_example_is_answered_as_the_document_says() -> None:
    async with running_server(settings_for(namespaces=NAMESPACES)) as server:
        for route in ROUTES:
            line = curl(route)
            if not line:
                continue
            status, media_type, body = await shell(server, line)
            assert media_type != PROBLEM, (line, body)
            answer = route.answers[0]
            assert status == answer.status, (line, body)
            known = answer_validator(route.path, route.method, status, media_type)
            assert known is not None
            assert [error.message for error in known.iter_errors(json.loads(body))] == [], line


async def test_examples_with_a_key_may_be_run_again() -> None:
    keyed = [line for route in ROUTES if "Idempotency-Key" in (line := curl(route))]
    assert len(keyed) == 2
    async with running_server(settings_for(namespaces=NAMESPACES)) as server:
        for line in keyed:
            bodies = [json.loads((await shell(server, line))[2]) for _ in range(2)]
            first, again = [body.get("results", [body]) for body in bodies]
            assert [one.get("repeated") for one in first] == [None] * len(first)
            assert again == [{**one, "repeated": True} for one in first]
