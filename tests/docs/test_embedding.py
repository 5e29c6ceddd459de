"""docs/embedding.md and the example of the README: what they show runs, and does what it says."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from hybrid import HybridError, Position
from tests.support.nodes import ROOT

PAGE = (ROOT / "docs" / "embedding.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(holding: str, page: str = PAGE) -> dict[str, Any]:
    """Run the one block that holds these words; its names."""
    [source] = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if holding in text]
    names: dict[str, Any] = {"__name__": "site"}
    exec(compile(source, "docs/embedding.md", "exec", dont_inherit=True), names)
    return names


async def shipped(names: dict[str, Any], asked: Any) -> None:
    async with names["hybrid"].test_client("kim") as client:
        order = await client.subscribe("order:7")
        await asked()
        assert (await anext(order)).data == {"state": "shipped"}


async def test_quart() -> None:
    names = run("# to try it")
    async with asyncio.timeout(10):
        await shipped(names, lambda: names["app"].test_client().post("/orders/7/ship"))


async def test_the_readme() -> None:
    names = run("from hybrid import Hybrid", README)
    async with asyncio.timeout(10), names["hybrid"].test_client("kim") as client:
        lobby = await client.subscribe("chat:lobby")
        assert await client.call("say", {"text": "hello"}) is None
        assert (await anext(lobby)).data == {"from": "kim", "text": "hello"}


async def test_the_factory() -> None:
    names = run("def create_app")
    hybrid = names["hybrid"]
    async with asyncio.timeout(10), hybrid.test_client("kim") as client:
        await client.subscribe("order:kim-1")
        for refused in (client.subscribe("order:bob-1"), client.publish("order:kim-1", 1)):
            with pytest.raises(HybridError, match="may not do that"):
                await refused
    other = names["create_app"]({"HYBRID_DEVELOPMENT_ISSUER": True})
    async with other.app_context():
        assert hybrid.settings.development_issuer


def test_settings() -> None:
    settings = run("HYBRID_ALLOWED_ORIGINS")["hybrid"].settings
    assert settings.limits.shutdown_grace_s == 5
    assert settings.issuers[0].url == "https://id.example.com"
    assert settings.namespaces["chat"].history_size == 500


async def test_who_may_do_what() -> None:
    names = run("from_the_database")
    assert names["whose"]({"user": "kim"}).subject == "kim"
    async with asyncio.timeout(10):
        async with names["hybrid"].test_client("kim", scope="") as kim:
            await kim.subscribe("team:kim")
            with pytest.raises(HybridError):
                await kim.publish("team:kim", 1)
            async with names["hybrid"].test_client("guest") as guest:
                with pytest.raises(HybridError):
                    await guest.publish("team:x", 1)


async def test_sessions() -> None:
    names = run("on_disconnect")
    async with asyncio.timeout(10), names["app"].test_app():
        async with names["hybrid"].test_client("kim") as kim:
            await kim.connected()
            while names["online"] != {"kim"}:  # noqa: ASYNC110
                await asyncio.sleep(0)
        while names["online"]:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_calls() -> None:
    names = run("async def reserve")
    async with asyncio.timeout(10), names["hybrid"].test_client("kim") as kim:
        seats = await kim.subscribe("seats:all")
        assert await kim.call("reserve", {"seat": "12A", "guests": 2}) == {"seat": "12A", "guests": 2}
        assert (await anext(seats)).data["taken_by"] == "kim"
        for data, name in (({"seat": "1", "guests": 1}, "not_found"), ({"seat": "12A", "guests": 10}, "bad_request")):
            with pytest.raises(HybridError) as raised:
                await kim.call("reserve", data)
            assert raised.value.row.name == name


async def test_publish_and_read(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("async def add_up")
    async with asyncio.timeout(10), names["app"].test_app():
        await names["measure"]()
        assert "no such channel" in capsys.readouterr().out
        while names["total"] != 42:  # noqa: ASYNC110
            await asyncio.sleep(0)
        position = (await names["hybrid"].history("meter:house"))[0].position
        async for reading in names["hybrid"].channel("meter:house").subscribe(position):
            assert reading.data == {"watts": 2}
            break
        assert isinstance(position, Position)


async def test_fastapi() -> None:
    pytest.importorskip("fastapi", reason="needs fastapi: `make .venv/.tested` installs it")
    import httpx2

    names = run("from fastapi import FastAPI")
    async with asyncio.timeout(10), names["hybrid"].test_client("kim") as client:
        assert await client.call("add", {"a": 1, "b": 2}) == 3

        async def asked() -> None:
            transport = httpx2.ASGITransport(names["app"])
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                assert (await http.post("/orders/7/ship")).status_code == 200

        await shipped(names, asked)


async def test_below_a_path() -> None:
    pytest.importorskip("starlette", reason="needs starlette: it comes with fastapi")
    names = run("from starlette.routing import Mount")
    channels = names["channels"]
    async with asyncio.timeout(10), channels.lifespan():
        async with channels.hybrid.test_client("kim", transport="sse") as client:
            await client.subscribe("a")


async def test_the_test() -> None:
    names = run("async def test_two_people_talk")
    async with asyncio.timeout(10):
        await names["test_two_people_talk"]()


def test_every_block_is_run() -> None:
    with open(__file__) as file:
        source = file.read()
    holding = [text.encode().decode("unicode_escape") for text in re.findall(r' run\("((?:[^"\\]|\\.)*)"\)', source)]
    assert [block for block in BLOCKS if not any(words in block for words in holding)] == []
