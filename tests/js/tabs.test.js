/** Several tabs over one connection: who leads, what is shared, and what happens when the leader goes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, jwt } from "./support/tabs.js";
import { World, events, record } from "./support/world.js";

/** Tabs with a client each, opened one after another; each is subscribed to "chat" from where it is. */
const open = async (count, { settings = {}, ...options } = {}) => {
  const world = new World(settings);
  const browser = new Browser(world);
  const tabs = [];
  const add = async (more = {}) => {
    const tab = browser.tab();
    const client = tab.client({ ...options, ...more });
    const channel = client.channel("chat");
    const got = record(channel);
    Object.assign(tab, { main: client, channel, got });
    tabs.push(tab);
    channel.subscribe().catch(() => {});
    client.connect();
    await world.advance(3_000);
    return tab;
  };
  for (let i = 0; i < count; i++) await add();
  return { world, browser, tabs, add };
};

const offsets = ({ got }) => got.map(({ offset }) => offset);
const transports = (tabs) => tabs.map(({ main }) => main.transport);
const from = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const streams = ({ server }) => [...server.sessions.values()].filter(({ current }) => current).length;

test("a tab that is alone has its own connection, at once", async () => {
  const world = new World();
  const tab = new Browser(world).tab();
  const client = tab.client();
  client.connect();
  await world.advance(40);
  assert.equal(client.transport, "websocket");
  assert.deepEqual(world.network.opened, ["websocket"]);
  await world.advance(60_000);
  assert.deepEqual(world.network.opened, ["websocket"]);
  client.disconnect();
  await world.advance(1_000);
  assert.equal(tab.browser.channels.size, 0);
  assert.equal(tab.browser.holder, undefined);
  assert.equal(world.clock.pending <= 1, true, "no timers are left but the server's");
});

test("the second tab shares; the first one's application goes on without a hole", async () => {
  const { world, tabs, add } = await open(1);
  const [first] = tabs;
  const publishing = (async () => {
    for (let i = 1; i <= 200; i++) {
      world.server.publish("chat", i);
      await new Promise((resolve) => world.clock.setTimeout(resolve, 20));
    }
  })();
  const second = await add();
  await world.advance(5_000);
  await publishing;
  assert.deepEqual(transports(tabs), ["shared", "shared"]);
  assert.equal(streams(world), 1);
  assert.equal(world.network.open, 1);
  assert.deepEqual(offsets(first), from(1, 200));
  assert.deepEqual(offsets(second), from(offsets(second)[0], 200));
  assert.equal(first.main.stats.gaps + second.main.stats.gaps, 0);
  assert.deepEqual(
    events(first.main, "state").map(({ state }) => state),
    ["connecting", "connected"],
  );
});
