/** Which transport carries the session, and what happens when one does not. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, events } from "./support/world.js";

const ALL = ["websocket", "sse", "longpoll"];

class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
}

test("importing and making a client does nothing", async () => {
  const world = new World();
  const client = world.client({
    environment: {
      onWake: () => assert.fail("listened"),
      setTimeout: () => assert.fail("set a timer"),
    },
  });
  await world.advance(1000);
  assert.deepEqual(world.network.opened, []);
  assert.equal(client.state, "disconnected");
  assert.equal(client.transport, undefined);
});

for (const transport of ALL) {
  test(`${transport} alone connects`, async () => {
    const world = new World();
    const client = await world.connected({ transports: [transport] });
    assert.equal(client.transport, transport);
    assert.equal(client.session, "s1");
    assert.deepEqual(events(client, "state"), [
      { state: "connecting", transport: undefined, reason: undefined },
      { state: "connected", transport, reason: undefined },
    ]);
    assert.deepEqual(events(client, "transport"), [{ transport, session: "s1", attempt: 1 }]);
    assert.deepEqual(
      events(client, "leg").map(({ event }) => event),
      ["opened", "attached", "confirmed"],
    );
    assert.deepEqual(world.network.opened, [transport]);
  });
}

test("a WebSocket that works within its head start is alone", async () => {
  const world = new World();
  world.network.latencyMs = () => 80;
  const client = await world.connected();
  assert.equal(client.transport, "websocket");
  assert.deepEqual(world.network.opened, ["websocket"]);
});

test("the URL of the API is resolved against the page's, with or without a slash at its end", async () => {
  const world = new World();
  const client = world.client({ url: "/v1/" });
  client.connect();
  await world.advance(100);
  assert.equal(world.network.urls[0], "wss://example.org/v1/stream");
});

const faults = [
  ["refused", 100],
  ["hang", 700],
  ["mute", 700],
];
for (const [fault, ms] of faults) {
  test(`WebSocket ${fault}: the event stream takes over within ${ms} ms, nobody waits for timeouts`, async () => {
    const world = new World();
    world.network.faults.websocket = fault;
    const client = world.client();
    client.connect();
    await world.advance(ms);
    assert.equal(client.transport, "sse");
    assert.deepEqual(world.network.opened, ["websocket", "sse"]);
    assert.equal(world.network.open, 1, "the loser is closed");
  });

  test(`WebSocket and event stream ${fault}: long polling takes over`, async () => {
    const world = new World();
    Object.assign(world.network.faults, { websocket: fault, sse: fault });
    const client = world.client();
    client.connect();
    await world.advance(2 * ms);
    assert.equal(client.transport, "longpoll");
    assert.deepEqual(world.network.opened, ALL);
  });
}

test("an event stream whose answer is held back does not count", async () => {
  const world = new World();
  Object.assign(world.network.faults, { websocket: "refused", sse: "held" });
  const client = await world.connected();
  assert.equal(client.transport, "longpoll");
});

test("a WebSocket that opens and is cut again and again is given up for the next transport", async () => {
  const world = new World();
  world.network.faults.websocket = "killed";
  const client = world.client();
  client.connect();
  await world.advance(5_000);
  assert.equal(client.state, "connected");
  assert.equal(client.transport, "sse");
  assert.equal(world.network.opened.filter((name) => name === "websocket").length, 2);
});

test("what worked is tried first the next time, by another client too, and attaches in one go", async () => {
  const world = new World();
  const storage = new Storage();
  world.network.faults.websocket = "hang";
  (await world.connected({ storage })).disconnect();
  world.network.faults = {};
  world.network.opened = [];
  const client = world.client({ storage });
  client.connect();
  await world.advance(30);
  assert.equal(client.transport, "sse");
  assert.deepEqual(world.network.opened, ["sse"]);
  assert.ok(!world.server.received.slice(1).some(({ method }) => method === "confirm"));
});

test("a transport the platform lacks is passed over", async () => {
  const world = new World();
  const client = await world.connected({ environment: { WebSocket: undefined } });
  assert.equal(client.transport, "sse");
});

test("when nothing works the error lists each transport and its reason, and the client tries on", async () => {
  const world = new World();
  Object.assign(world.network.faults, { websocket: "refused", sse: 502, longpoll: "refused" });
  const client = world.client();
  client.connect();
  await world.advance(100);
  const [error] = events(client, "error");
  assert.equal(error.name, "unreachable");
  assert.deepEqual(
    error.attempts.map(({ transport, reason }) => [transport, reason]),
    [
      ["websocket", "closed with 1006"],
      ["sse", "HTTP 502"],
      ["longpoll", "network error"],
    ],
  );
  assert.match(error.message, /websocket: closed with 1006; sse: HTTP 502; longpoll: network error/);
  assert.equal(client.state, "connecting");
  world.network.faults = {};
  await world.advance(10_000);
  assert.equal(client.state, "connected");
});

test("a silent network is given up after ten seconds, with a reason", async () => {
  const world = new World();
  Object.assign(world.network.faults, { websocket: "hang", sse: "hang", longpoll: "hang" });
  const client = world.client();
  client.connect();
  await world.advance(11_500);
  const [error] = events(client, "error");
  assert.ok(error.attempts.every(({ reason }) => reason === "no answer within 10 s"));
});

test("rounds back off, and a dead server demotes nothing", async () => {
  const world = new World();
  world.network.isDown = true;
  const client = world.client();
  client.connect();
  await world.advance(120_000);
  const rounds = world.network.opened.filter((name) => name === "websocket").length;
  assert.ok(rounds >= 5 && rounds <= 25, `${rounds} rounds in two minutes`);
  world.network.isDown = false;
  await world.advance(31_000);
  assert.equal(client.transport, "websocket");
});

test("the wait ends when the network returns, unless the server asked for it", async () => {
  const world = new World();
  const client = await world.connected();
  world.network.isDown = true;
  world.network.cut();
  await world.advance(60_000);
  world.network.isDown = false;
  world.network.wake();
  await world.advance(100);
  assert.equal(client.state, "connected");
  await world.advance(10_000);
  const [session] = [...world.server.sessions.values()].filter(({ current }) => current);
  session.current.write({ disconnect: { code: 1012, reason: "draining", delay_ms: 5000 } });
  await world.advance(1000);
  world.network.wake();
  await world.advance(1000);
  assert.equal(client.state, "connecting");
  await world.advance(4_500);
  assert.equal(client.state, "connected");
});

test("disconnect ends everything, and connect begins a new session", async () => {
  const world = new World();
  const client = await world.connected();
  client.disconnect();
  assert.equal(client.state, "disconnected");
  await world.advance(100);
  assert.equal(world.network.open, 0);
  await world.advance(120_000);
  assert.deepEqual(world.network.opened, ["websocket"]);
  client.connect();
  await world.advance(100);
  assert.equal(client.state, "connected");
  assert.equal(client.session, "s2");
});

test("disconnect in the middle of a race leaves nothing open", async () => {
  const world = new World();
  world.network.faults.websocket = "hang";
  const client = world.client();
  client.connect();
  await world.advance(503);
  client.disconnect();
  await world.advance(60_000);
  assert.equal(world.network.open, 0);
  assert.equal(client.state, "disconnected");
  assert.equal(events(client, "error").length, 0);
});

test("a listener may disconnect and connect again at the moment of a loss: one session grows from it", async () => {
  const world = new World();
  const client = await world.connected();
  const off = client.on("state", ({ state }) => {
    if (state !== "connecting") return;
    off();
    client.disconnect();
    client.connect();
  });
  world.network.cut();
  await world.advance(5_000);
  assert.equal(client.state, "connected");
  assert.equal(world.network.open, 1);
  assert.deepEqual(world.network.opened, ["websocket", "websocket"]);
});

test("better transports are probed in the background, ever more rarely, and taken when they work", async () => {
  const world = new World();
  world.network.faults.websocket = "refused";
  const client = await world.connected();
  assert.equal(client.transport, "sse");
  world.network.opened = [];
  await world.advance(27_000);
  assert.deepEqual(world.network.opened, []);
  await world.advance(180_000);
  const tries = world.network.opened.filter((name) => name === "websocket").length;
  assert.ok(tries >= 2 && tries <= 4, `${tries}`);
  assert.equal(client.stats.reconnects, 0);
  world.network.faults = {};
  await world.advance(300_000);
  assert.equal(client.transport, "websocket");
  assert.equal(client.stats.reconnects, 0, "make before break: never without a leg");
});

test("a server that lets in so many a second: nobody tries another transport, and comes exactly when told", async () => {
  for (const transport of ALL) {
    const world = new World();
    const refused = [];
    const { attach } = world.server;
    world.server.attach = function (leg, ...rest) {
      if (refused.length) return attach.call(this, leg, ...rest);
      refused.push(world.clock.now());
      leg.write({ disconnect: { code: 1012, reason: "draining", delay_ms: 7_300 } });
      leg.end(1012, "draining");
    };
    const client = world.client({ transports: [transport, ...ALL.filter((other) => other !== transport)] });
    client.connect();
    await world.advance(7_290);
    assert.deepEqual(world.network.opened, [transport]);
    assert.equal(client.state, "connecting");
    await world.advance(100);
    assert.equal(client.transport, transport);
    assert.deepEqual(world.network.opened, [transport, transport]);
  }
});
