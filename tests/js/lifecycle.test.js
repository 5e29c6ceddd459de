/** connect(), disconnect(), sleep and wake in whatever order: what was asked for last holds, and nothing stays behind. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./support/world.js";

/** An environment whose `timers` are the client's own. */
const counting = ({ clock }) => {
  const timers = new Set();
  return {
    timers,
    setTimeout(callback, delayMs) {
      const timer = clock.setTimeout(() => {
        timers.delete(timer);
        callback();
      }, delayMs);
      timers.add(timer);
      return timer;
    },
    clearTimeout(timer) {
      timers.delete(timer);
      clock.clearTimeout(timer);
    },
  };
};

test("put to sleep, stopped, and started again: it still comes back after a cut", async () => {
  const world = new World();
  const client = await world.connected();
  // `pagehide`: first our listener, then the application's, which disconnects; on `pageshow` it connects.
  world.network.sleep();
  client.disconnect();
  await world.advance(10_000);
  client.connect();
  await world.advance(2_000);
  assert.equal(client.state, "connected");
  world.network.cut();
  await world.advance(30_000);
  assert.equal(client.state, "connected");
});

const moments = [
  ["leg", "opened"],
  ["leg", "attached"],
  ["leg", "confirmed"],
  ["transport", undefined],
  ["state", "connected"],
];

for (const [event, detail] of moments)
  for (const transports of [["websocket", "sse"], ["sse"], ["longpoll", "sse"]]) {
    const at = `${event} ${detail ?? ""}`.trim();
    const isMoment = (value) => !detail || (value.event ?? value.state) === detail;

    test(`${transports}: a listener disconnects at '${at}': nothing is open or ticking, and connect() connects`, async () => {
      const world = new World();
      const environment = counting(world);
      const client = world.client({ environment, transports });
      const off = client.on(event, (value) => isMoment(value) && client.disconnect());
      client.connect();
      await world.advance(2_000);
      assert.equal(client.state, "disconnected");
      assert.equal(world.network.open, 0);
      assert.equal(environment.timers.size, 0);
      off();
      client.connect();
      await world.advance(2_000);
      assert.equal(client.state, "connected");
      assert.equal(client.transport, transports[0]);
    });
  }

for (const end of ["disconnect", "sleep"]) {
  test(`${end} in the middle of a race: nobody is asked any more whether the server is there`, async () => {
    const world = new World();
    Object.assign(world.network.faults, { websocket: "hang", ping: "hang" });
    const environment = counting(world);
    const client = world.client({ environment, transports: ["websocket"] });
    client.connect();
    await world.advance(100);
    world.network.urls = [];
    if (end === "sleep") world.network.sleep();
    else client.disconnect();
    await world.advance(1_000);
    assert.deepEqual(world.network.urls, []);
    assert.equal(world.network.open, 0);
    assert.equal(environment.timers.size, 0);
  });
}

test("a delay that the server asked for is kept through sleep and waking", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const [session] = world.server.sessions.values();
  session.current.write({ disconnect: { code: 1012, reason: "draining", delay_ms: 30_000 } });
  await world.advance(1_000);
  world.network.sleep();
  await world.advance(100);
  world.network.wake();
  await world.advance(28_000);
  assert.equal(world.network.opened.length, 1);
  assert.equal(client.state, "connecting");
  await world.advance(2_000);
  assert.equal(client.state, "connected");
});
