"""The client as one file, in a page without modules."""

from __future__ import annotations

from tests.browser.conftest import Demo
from tests.support.nodes import ROOT

CHANNEL = "demo:chat"

USE = """(async () => {
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
  const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
  window.seen = [];
  window.client = new hybrid.Client({ url: "/v1", getToken: () => access_token, transports: [TRANSPORT] });
  client.connect();
  for await (const { data } of client.channel("demo:chat")) seen.push(data);
})()"""


async def test_it_reads_over_every_transport(demo: Demo) -> None:
    text = (ROOT / "static" / "hybrid.min.js").read_text()
    await demo.open()
    # As a classic script would be: at the top level, where `var` makes a property of the window.
    await demo.page.evaluate(text + ";typeof window.hybrid.Client")
    for transport in ("websocket", "sse", "longpoll"):
        await demo.page.evaluate("void " + USE.replace("TRANSPORT", f"'{transport}'"))
        await demo.page.until(f"window.client && client.transport === '{transport}'")
        await demo.page.until("client.channel('demo:chat').state === 'subscribed'")
        await demo.engine.publish(CHANNEL, transport)
        await demo.page.until("seen.length === 1")
        assert await demo.page.evaluate("seen") == [transport]
        await demo.page.evaluate("client.disconnect()")
