"""The example apps, without a browser: what their servers promise."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import httpx2
import pytest

from hybrid import HybridError
from tests.embed.examples import EXAMPLES, load, served
from tests.support.nodes import ROOT

NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/app.py"))


def test_each_says_what_it_is_and_how_it_is_run() -> None:
    assert NAMES == ["chat", "progress", "sensors"]
    for name in NAMES:
        readme = (EXAMPLES / name / "README.md").read_text()
        assert f"cd docs/examples/{name}\nhybrid serve --app app:app\n" in readme


async def test_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    hybrid = load("chat", monkeypatch).hybrid
    async with asyncio.timeout(10):
        async with hybrid.test_client("kim") as kim, hybrid.test_client("bob") as bob:
            lobby = await bob.subscribe("room:lobby")
            await kim.call("say", {"text": "hello"})
            assert (await anext(lobby)).data == {"from": "kim", "text": "hello"}
            assert {entry.subject for entry in await kim.presence("room:lobby")} == {"bob"}
            for text in ("", "x" * 2_001, 7):
                with pytest.raises(HybridError) as raised:
                    await kim.call("say", {"text": text})
                assert raised.value.row.name == "bad_request"
            with pytest.raises(HybridError):
                await kim.publish("room:lobby", {"from": "bob", "text": "not mine"})


async def test_chat_is_for_who_is_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    app = load("chat", monkeypatch).app
    headers = {"Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
    async with app.test_app() as running:
        client = running.test_client()
        for name, shown in (("  kim   b ", "kim b"), ("x" * 33, None), ("\u202e", None), ("", None)):
            fresh = running.test_client()
            await fresh.post("/sign-in", form={"name": name}, scheme="https", headers=headers)
            me = await fresh.get("/me", scheme="https", headers=headers)
            assert (await me.get_json())["name"] == shown
        assert (await client.get("/v1/history/room:lobby", scheme="https", headers=headers)).status_code == 401


async def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("progress", monkeypatch)
    assert module.primes_between(0, 30) == 10
    assert sum(module.primes_between(low, low + 100) for low in range(0, 1_000, 100)) == 168
    async with asyncio.timeout(20), module.hybrid.test_client(None) as watcher:
        client = module.app.test_client()
        for limit in ("1", "300000001"):
            assert (await client.post("/jobs", form={"limit": limit})).status_code == 400
        job = (await (await client.post("/jobs", form={"limit": "100000"})).get_json())["job"]
        reading = await watcher.subscribe(f"job:{job}", history=1_000)
        seen = [await anext(reading) for _ in range(100)]
        assert [item.data["done"] for item in seen] == list(range(1, 101))
        assert seen[-1].data == {"done": 100, "of": 100, "below": 100_000, "found": 9_592}
        with pytest.raises(HybridError):
            await watcher.publish(f"job:{job}", {"done": 0})
        late = await watcher.history(f"job:{job}", limit=1, reverse=True)
        assert late[0].data["done"] == 100


async def test_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    hybrid = load("sensors", monkeypatch).hybrid
    async with asyncio.timeout(10):
        async with hybrid.test_client("ada") as sensor, hybrid.test_client(None) as page:
            readings, alarms = await page.subscribe("fleet:readings"), await page.subscribe("fleet:alarms")
            for cpu in (10.04, 95, 96, 20, 97):
                await sensor.call("report", {"sensor": "kitchen", "cpu": cpu, "memory": 50})
            seen = [(await anext(readings)).data for _ in range(5)]
            assert seen[0] == {"sensor": "kitchen", "owner": "ada", "cpu": 10.0, "memory": 50.0}
            assert [(await anext(alarms)).data["cpu"] for _ in range(2)] == [95, 97]
            for wrong in ({"cpu": 101}, {"sensor": "<b>"}, {"memory": "much"}, {"owner": "bob"}):
                with pytest.raises(HybridError) as raised:
                    await sensor.call("report", {"sensor": "kitchen", "cpu": 1, "memory": 1, **wrong})
                assert raised.value.row.name == "bad_request"
            with pytest.raises(HybridError):
                await sensor.publish("fleet:readings", seen[0])


@pytest.mark.slow  # the issuer has it ask every five seconds
async def test_a_sensor_signs_in_and_reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with asyncio.timeout(60), served("sensors", monkeypatch) as example:
        sensor = await asyncio.create_subprocess_exec(
            *(sys.executable, str(EXAMPLES / "sensors" / "sensor.py"), "kitchen", example.url),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert sensor.stdout is not None
        try:
            opened = re.fullmatch(r"Open (\S+)\n", (await sensor.stdout.readline()).decode())
            assert opened is not None
            code = re.search(r"shows ([B-Z-]+)", (await sensor.stdout.readline()).decode())
            assert code is not None
            async with httpx2.AsyncClient() as http:
                await consent(http, opened[1], code[1], "ada")
            assert (await sensor.stdout.readline()).decode() == "kitchen reports over websocket\n"
            async for reading in example.module.hybrid.channel("fleet:readings").subscribe(history=1):
                assert (reading.data["owner"], reading.data["sensor"]) == ("ada", "kitchen")
                break
        finally:
            sensor.terminate()
            await sensor.wait()


async def consent(http: httpx2.AsyncClient, url: str, code: str, name: str) -> None:
    """As the person who opens the address, sends the code that stands there, and consents."""
    page = await http.get(url)
    for filled in ({"user_code": code}, {"name": name, "decision": "allow"}):
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        page = await http.post(url.partition("?")[0], data={**hidden, **filled})
        assert page.status_code == 200, page.text
    assert "signed in" in page.text
