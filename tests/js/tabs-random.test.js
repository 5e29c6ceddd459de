/**
 * Seeded runs of tabs that open, close or crash, get stuck, are suspended and resumed, on a network that is cut. Whatever
 * happens, each application sees offsets rising by exactly one, each publish is in the log once or is said to be
 * unknown, and when it is quiet again all tabs have one connection. TEST_SEEDS sets how many runs, TEST_SEED runs one.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser } from "./support/tabs.js";
import { World, record } from "./support/world.js";

const STEPS = 60;
const TABS_MAX = 6;
const only = process.env.TEST_SEED;
const seeds = only ? [Number(only)] : Array.from({ length: Number(process.env.TEST_SEEDS ?? 40) }, (_, i) => i + 1);

const run = async (seed) => {
  const world = new World({ seed });
  const { server, network, random } = world;
  const browser = new Browser(world);
  const pick = (list) => list[Math.floor(random() * list.length)];
  network.latencyMs = () => 1 + Math.floor(random() * 40);
  const transports = pick([["websocket"], ["sse"], ["longpoll"], ["websocket", "sse", "longpoll"]]);
  // Repetitions may come; what the real server never does is to leave one out on a leg.
  server.mangle = (publication) => (random() < 0.03 ? [publication, publication] : [publication]);

  const tabs = [];
  const published = [];
  let count = 0;

  const open = () => {
    const tab = browser.tab();
    const client = tab.client({ transports });
    const got = new Map();
    for (const name of ["a", "b"]) {
      const channel = client.channel(name, { position: { offset: 0 } });
      got.set(name, record(channel));
      channel.subscribe().catch(() => {});
    }
    // One channel comes and goes: within each stay offsets rise by one.
    const guest = client.channel("guest", pick([{}, { history: 3 }]));
    let last;
    guest.on("state", ({ state }) => {
      if (state === "unsubscribed") last = undefined;
    });
    guest.on("reset", () => assert.fail(`seed ${seed}: nothing was lost`));
    guest.on("publication", ({ offset }) => {
      assert.ok(last === undefined || offset === last + 1, `seed ${seed}: guest ${last} -> ${offset}`);
      last = offset;
    });
    client.connect();
    tabs.push(Object.assign(tab, { main: client, got, guest, isSuspended: false }));
  };
  const remove = (tab) => tabs.splice(tabs.indexOf(tab), 1);
  const publish = (tab) => {
    const outcome = { data: { unique: ++count }, tab };
    published.push(outcome);
    tab.main.publish("b", outcome.data).then(
      (value) => (outcome.value = value),
      (error) => (outcome.error = error),
    );
  };
  const active = () => tabs.filter((tab) => !tab.isStuck && !tab.isSuspended);
  const some = (list, action) => list.length && action(pick(list));

  const steps = [
    () => server.publish(pick(["a", "b", "guest"]), ++count),
    () => server.publish(pick(["a", "b", "guest"]), ++count),
    // More than the leader has at hand: who was away needs the history.
    () => Array.from({ length: 150 }, () => server.publish("a", ++count)),
    () => some(active(), publish),
    () => some(active(), publish),
    () => tabs.length < TABS_MAX && open(),
    () => some(tabs, (tab) => tab.crash()),
    () => browser.holder && random() < 0.5 && browser.holder.crash(),
    () => some(active(), (tab) => tab.stick()),
    () =>
      some(
        tabs.filter(({ isStuck }) => isStuck),
        (tab) => tab.loosen(),
      ),
    () =>
      some(
        tabs.filter(({ isStuck }) => isStuck),
        (tab) => tab.loosen(),
      ),
    () =>
      some(active(), (tab) => {
        tab.isSuspended = true;
        tab.suspend();
      }),
    () =>
      some(
        tabs.filter((tab) => tab.isSuspended),
        (tab) => {
          tab.isSuspended = false;
          tab.resume();
        },
      ),
    () => some(active(), ({ main }) => main.cut()),
    () => random() < 0.4 && network.cut(),
    () => (network.isDown = random() < 0.2),
    () => random() < 0.3 && server.forgetSessions(),
    () => some(active(), ({ guest }) => guest.subscribe().catch(() => {})),
    () => some(active(), ({ guest }) => guest.unsubscribe().catch(() => {})),
  ];
  open();
  for (let step = 0; step < STEPS; step++) {
    pick(steps)();
    for (const tab of tabs.filter(({ isGone }) => isGone)) remove(tab);
    await world.advance(Math.floor(random() * pick([5, 50, 2_000, 8_000])));
  }
  while (tabs.length < 2) open();
  network.isDown = false;
  for (const tab of tabs) {
    if (tab.isStuck) tab.loosen();
    if (tab.isSuspended) tab.resume();
  }
  await world.advance(700_000);
  for (const name of ["a", "b"]) server.publish(name, "last");
  await world.advance(5_000);

  for (const { main, got, guest } of tabs) {
    assert.equal(main.state, "connected", `seed ${seed}`);
    assert.equal(main.transport, "shared", `seed ${seed}`);
    assert.equal(main.stats.gaps, 0, `seed ${seed}: what came always went on from what was there`);
    for (const [name, publications] of got) {
      const expected = server.log(name).entries.map(({ offset, tag, data }) => [offset, tag, data]);
      assert.deepEqual(
        publications.map(({ offset, tag, data }) => [offset, tag, data]),
        expected,
        `seed ${seed}: ${name}`,
      );
      assert.deepEqual(publications.resets, [], `seed ${seed}: nothing was lost on the server`);
    }
    assert.equal(guest.state, guest.isWanted ? "subscribed" : "unsubscribed", `seed ${seed}`);
  }
  const current = [...server.sessions.values()].filter((session) => session.current);
  if (!transports.includes("longpoll")) assert.equal(current.length, 1, `seed ${seed}: one connection`);
  assert.ok(network.open <= 1 + transports.includes("longpoll"), `seed ${seed}: ${network.open} connections`);
  for (const { data, value, error, tab } of published) {
    const times = server.log("b").entries.filter((entry) => entry.data.unique === data.unique).length;
    assert.ok(value || error || tab.isGone, `seed ${seed}: ${data.unique} never ended`);
    if (value) assert.equal(times, 1, `seed ${seed}: answered, so in the log once`);
    else if (!error || error.name === "outcome_unknown") assert.ok(times <= 1, `seed ${seed}: never twice`);
    else assert.equal(times, 0, `seed ${seed}: ${error.name} says that nothing happened`);
  }
  for (const { main } of tabs) main.disconnect();
  await world.advance(1_000);
  assert.equal(network.open, 0, `seed ${seed}: connections left`);
  assert.equal(browser.channels.size, 0, `seed ${seed}: channels left`);
  assert.equal(browser.holder, undefined, `seed ${seed}: the lock is held`);
};

test(`random runs of tabs (${seeds.length} seeds)`, async (t) => {
  for (const seed of seeds) await t.test(`seed ${seed}`, () => run(seed));
});
