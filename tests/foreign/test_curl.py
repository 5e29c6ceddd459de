"""A channel from the shell: the real curl, run as in the documentation."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.server import RunningServer, running_server, settings_for

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="needs curl")


@asynccontextmanager
async def curl(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL, "-sS", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(*arguments: str) -> str:
    async with curl(*arguments) as process:
        out, error = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, error
        return out.decode()


def header(server: RunningServer) -> tuple[str, str]:
    return "-H", f"Authorization: Bearer {server.token()}"


async def lines_until(process: asyncio.subprocess.Process, last: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while last not in lines:
        lines.append((await asyncio.wait_for(process.stdout.readline(), 20)).decode().rstrip("\n"))
        assert lines[-1] or lines[-2:] != ["", ""], "the stream ended"
    return lines


@pytest.mark.parametrize("handoff", [True, False], ids=["hand-off", "asgi"])
async def test_curl_n_follows_a_channel_and_goes_on_where_it_was(handoff: bool) -> None:
    async with running_server(settings_for(handoff=handoff)) as server:
        url = f"{server.url}/v1/channels/weather"
        async with curl("-N", *header(server), "-H", "Accept: text/event-stream", url) as process:
            opened = await lines_until(process, "id: 0")
            assert opened[0].startswith(":")
            assert "retry: 3000" in opened
            await server.engine.publish("weather", {"rain": True})
            seen = await lines_until(process, 'data: {"rain":true}')
        cursor = next(line for line in seen if line.startswith("id: ")).removeprefix("id: ")
        for number in (1, 2):
            await server.engine.publish("weather", number)
        resumed = ("-H", f"Last-Event-ID: {cursor}"), ()
        urls = url, f"{url}?after={cursor}"
        for options, target in zip(resumed, urls, strict=True):
            async with curl("-N", *header(server), "-H", "Accept: text/event-stream", *options, target) as process:
                lines = await lines_until(process, "data: 2")
            assert [line for line in lines if line.startswith("data")] == ["data: 1", "data: 2"]


async def test_curl_publishes_json_text_and_bytes_and_polls_them() -> None:
    async with running_server(settings_for()) as server:
        url = f"{server.url}/v1/channels/weather"
        start = json.loads(await output(*header(server), url))
        assert start == {"cursor": "0", "recovered": True, "publications": []}
        for media_type, data in (
            ("application/json", '{"rain": true}'),
            ("text/plain", "häil"),
            ("application/octet-stream", "hail"),
        ):
            answer = await output(*header(server), "-H", f"Content-Type: {media_type}", "-d", data, url)
            assert set(json.loads(answer)) == {"offset", "epoch", "tag"}
        polled = json.loads(await output(*header(server), f"{url}?after=0&wait=25"))
        assert [publication["data"] for publication in polled["publications"]] == [
            {"rain": True},
            "häil",
            {"base64": "aGFpbA=="},
        ]
        assert [publication.get("binary", False) for publication in polled["publications"]] == [False, False, True]


async def test_curls_default_form_is_refused_with_what_to_do_instead() -> None:
    async with running_server(settings_for()) as server:
        url = f"{server.url}/v1/channels/weather"
        answer = json.loads(await output(*header(server), "-d", "rain=true", url))
        assert (answer["number"], answer["name"], answer["status"]) == (3400, "bad_request", 400)
        assert "application/json" in answer["detail"]


async def test_a_large_body_is_answered_and_not_only_cut_off() -> None:
    """A server that closes without reading resets the connection, and curl shows "Connection reset" only."""
    async with running_server(settings_for()) as server:
        for size in (70_000, 3_000_000):
            for options in (header(server), ()):
                # The body through a pipe: curl announces its length or sends it in chunks, as it likes.
                answered = await piped(
                    b'"' + b"x" * size + b'"', *options, "--json", "@-", "-w", "%{http_code}",
                    f"{server.url}/v1/channels/weather",
                )  # fmt: skip
                assert answered.endswith("413" if options else "401"), (size, bool(options), answered)


async def piped(body: bytes, *arguments: str) -> str:
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL,
        "-sS",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(body), 20)
    return (out or error).decode()
