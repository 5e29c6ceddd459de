"""A server asked by its own OpenAPI document, by schemathesis: with data that fits it, and with data that does not.

No answer is a fault of the server, each is as the document says (status, media type, headers, body), and bad data is
refused. Which checks are left out, and why, is in `tests/foreign/schemathesis/schemathesis.toml`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybrid.auth.development import FULL_SCOPE
from hybrid.auth.grants import MANAGING_SCOPES, REVOKE_SCOPE
from hybrid.limits import Limits
from hybrid.protocol.routes import ROUTES
from hybrid.settings import Namespace
from tests.support.nodes import ROOT
from tests.support.server import RunningServer, running_server, settings_for

FOLDER = ROOT / "tests" / "foreign" / "schemathesis"
PROGRAM = FOLDER / ".venv" / "bin" / "schemathesis"
TIMEOUT_S = 300
NAMESPACES = {"default": Namespace("default", presence=True)}
LIMITS = Limits(poll_wait_max_s=0.05, candidate_timeout_s=0.2)
"""A poll that nobody answers, and a stream that nobody confirms, end soon: they are asked for by the hundred."""
OPERATIONS = len(ROUTES) + sum(route.has_head for route in ROUTES) - 1
"""It leaves out the one that it has read the document from."""

pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="needs schemathesis, which was not found: `make schemathesis` installs it"
)


async def run(server: RunningServer, folder: Path, *options: str) -> tuple[int, str]:
    """The status and output of one run, which is the same for the same seed."""
    token = server.token(scope=" ".join((FULL_SCOPE, REVOKE_SCOPE, *MANAGING_SCOPES)), lifetime_s=3_600)
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        *("--config-file", str(FOLDER / "schemathesis.toml")),
        *("run", f"{server.url}/v1/openapi.json", "-H", f"Authorization: Bearer {token}"),
        *("--no-color", "--continue-on-failure", "--report-dir", str(folder), *options),
        cwd=folder,  # where it leaves what it remembers
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode()


@asynccontextmanager
async def a_server() -> AsyncIterator[RunningServer]:
    async with running_server(settings_for(limits=LIMITS, namespaces=NAMESPACES)) as server:
        yield server


def asked(output: str) -> int:
    """How many operations were asked."""
    found = re.search(r"Tested: (\d+)", output)
    assert found, output
    return int(found[1])


async def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    async with a_server() as server:
        status, output = await run(
            server, tmp_path, "--seed", "1", "--max-examples", "5", "--no-shrink", "--phases", "examples,fuzzing"
        )
    assert status == 0, output
    assert asked(output) == OPERATIONS


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_many_more_answers_are_as_the_document_says(seed: int, tmp_path: Path) -> None:
    async with a_server() as server:
        status, output = await run(
            server,
            tmp_path,
            *("--seed", str(seed), "--max-examples", "100", "--phases", "examples,coverage,fuzzing,stateful"),
        )
    assert status == 0, output
    assert asked(output) == OPERATIONS


async def test_it_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers what its document does not say."""

    async def ping(self: object, exchange: object) -> None:
        await exchange.respond(202, b'{"at_ms":"now"}')  # type: ignore[attr-defined]

    monkeypatch.setattr("hybrid.transports.requests.Requests.ping", ping)
    async with a_server() as server:
        status, output = await run(
            server, tmp_path, "--seed", "1", "--max-examples", "2", "--phases", "fuzzing", "--include-path", "/v1/ping"
        )
    assert status == 1, output
    assert "Undocumented HTTP status code" in output or "status code" in output.lower()
