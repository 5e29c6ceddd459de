"""A browser's own `EventSource` and `WebSocket` on a plain channel: no library of ours, only a ticket or a token."""

from __future__ import annotations

import json

from hybrid.engine.plain import PlainStream
from tests.browser.conftest import Demo

CHANNEL = "demo:chat"

OPEN = """(async () => {
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
  const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
  const answer = await fetch("/v1/ticket", {
    method: "POST",
    headers: { Authorization: `Bearer ${access_token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ purpose: "channels", channels: [NAME] }),
  });
  const { ticket } = await answer.json();
  window.seen = [];
  window.opened = 0;
  window.source = new EventSource(`/v1/channels/${encodeURIComponent(NAME)}?ticket=${ticket}`);
  source.onopen = () => { opened += 1; };
  source.onmessage = ({ data, lastEventId }) => seen.push([JSON.parse(data), lastEventId]);
})()""".replace("NAME", json.dumps(CHANNEL))

SOCKET = """(async () => {
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: "demo" });
  const { access_token } = await (await fetch("/dev-issuer/token", { method: "POST", body: form })).json();
  window.frames_ = [];
  const socket = new WebSocket(`ws://${location.host}/v1/channels/${encodeURIComponent(NAME)}?history=10`);
  socket.onopen = () => socket.send(JSON.stringify({ method: "auth", token: access_token }));
  socket.onmessage = ({ data }) => frames_.push(JSON.parse(data).data);
})()""".replace("NAME", json.dumps(CHANNEL))


async def test_event_source_goes_on_by_itself_after_a_cut(demo: Demo) -> None:
    """The browser asks for the same URL again, with Last-Event-ID: the ticket has to be good for that."""
    await demo.open()
    await demo.page.evaluate(OPEN)
    await demo.page.until("opened === 1")
    await demo.engine.publish(CHANNEL, 1)
    await demo.page.until("seen.length === 1")
    for stream in demo.engine.open.streams():
        if isinstance(stream, PlainStream):
            stream.link.abort()
    await demo.engine.publish(CHANNEL, 2)
    await demo.page.until("opened === 2 && seen.length >= 2")
    await demo.engine.publish(CHANNEL, 3)
    await demo.page.until("seen.length >= 3")
    assert await demo.page.evaluate("seen.map(([data]) => data)") == [1, 2, 3]
    offsets = await demo.page.evaluate("seen.map(([, id]) => Number(id.split('-')[1]))")
    assert offsets == list(range(offsets[0], offsets[0] + 3))


async def test_a_browsers_websocket_authenticates_with_its_first_frame(demo: Demo) -> None:
    await demo.open()
    await demo.engine.publish(CHANNEL, "before")
    await demo.page.evaluate(SOCKET)
    await demo.page.until("frames_.includes('before')")
    await demo.engine.publish(CHANNEL, "after")
    await demo.page.until("frames_.at(-1) === 'after'")
