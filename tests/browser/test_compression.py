"""A browser's own permessage-deflate: agreed on, read, written, and by hybrid's client as well."""

from __future__ import annotations

import json

from tests.browser.conftest import Demo

CHANNEL = "demo:chat"
LONG = {"rows": [{"name": f"row {number}", "value": number * 7919, "text": "é😀"} for number in range(300)]}

SOCKET = """(async () => {
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
  const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
  window.got = [];
  window.socket = new WebSocket(`ws://${location.host}/v1/channels/${encodeURIComponent(NAME)}?history=10`);
  // Compressed by the browser, as all that it sends, and larger than a buffer.
  socket.onopen = () => socket.send(JSON.stringify({ method: "auth", token: access_token }).padEnd(9_000));
  socket.onmessage = ({ data }) => got.push(JSON.parse(data).data);
})()""".replace("NAME", json.dumps(CHANNEL))


async def test_a_browser_reads_what_was_kept_and_what_comes(demo: Demo) -> None:
    await demo.open()
    await demo.engine.publish(CHANNEL, LONG)
    await demo.page.evaluate(SOCKET)
    await demo.page.until("got.some((data) => data.rows?.length === 300)")
    assert LONG in await demo.page.evaluate("got")
    assert "permessage-deflate" in await demo.page.evaluate("socket.extensions")
    for number in range(5):
        await demo.engine.publish(CHANNEL, [number, LONG])
    await demo.page.until("got.filter((data) => Array.isArray(data) && data[1]).length === 5")
    assert await demo.page.evaluate("got.at(-1)") == [4, LONG]
