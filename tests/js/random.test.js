/**
 * Seeded runs of several clients against cuts, moves, faults, restarts, repetitions and losses on the wire. Whatever
 * happens, each application sees offsets rising by exactly one, and each publish is in the log once, or is said to be
 * unknown. A run that fails names its seed; TEST_SEEDS sets how many there are, TEST_SEED runs one.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, record } from "./support/world.js";

const TRANSPORTS = ["websocket", "sse", "longpoll"];
const STEPS = 70;
const only = process.env.TEST_SEED;
const seeds = only ? [Number(only)] : Array.from({ length: Number(process.env.TEST_SEEDS ?? 60) }, (_, i) => i + 1);

const run = async (seed) => {
  const world = new World({ seed });
  const { server, network, random } = world;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const slowMs = pick([2, 30, 150]);
  network.latencyMs = () => 1 + Math.floor(random() * slowMs);
  const lossy = random() < 0.5;
  server.mangle = (publication) => {
    const luck = lossy ? random() : 1;
    return luck < 0.03 ? [] : luck < 0.08 ? [publication, publication] : [publication];
  };

  const clients = TRANSPORTS.map((transport) => {
    const client = world.client({ transports: [transport, ...TRANSPORTS.filter((other) => other !== transport)] });
    const got = new Map();
    for (const name of ["a", "b"]) {
      const channel = client.channel(name, { position: { offset: 0 } });
      got.set(name, record(channel));
      channel.subscribe().catch(() => {});
    }
    // One channel comes and goes: within each stay offsets rise by one too.
    const guest = client.channel("guest");
    let last;
    guest.on("state", ({ state }) => {
      if (state === "unsubscribed") last = undefined;
    });
    guest.on("reset", () => (last = undefined));
    guest.on("publication", ({ offset }) => {
      assert.ok(last === undefined || offset === last + 1, `seed ${seed}: guest ${last} -> ${offset}`);
      last = offset;
    });
    client.connect();
    return { client, got, guest };
  });

  const published = [];
  const promises = [];
  const follow = (promise, what) => {
    const outcome = { what, isSettled: false };
    promises.push(outcome);
    promise.then(
      (value) => Object.assign(outcome, { isSettled: true, value }),
      (error) => Object.assign(outcome, { isSettled: true, error }),
    );
    return outcome;
  };
  let count = 0;
  const steps = [
    () => server.publish(pick(["a", "b", "guest"]), ++count),
    () => server.publish(pick(["a", "b", "guest"]), ++count),
    () => {
      const data = { unique: ++count };
      published.push({ data, outcome: follow(pick(clients).client.publish("b", data), `publish ${count}`) });
    },
    () => pick(clients).client.cut(),
    () => random() < 0.3 && network.cut(),
    () => follow(pick(clients).client.moveTo(pick(TRANSPORTS)), "move"),
    () => follow(pick(clients).guest.subscribe(), "subscribe"),
    () => follow(pick(clients).guest.unsubscribe(), "unsubscribe"),
    () => random() < 0.2 && server.forgetSessions(),
    () => (network.faults[pick(TRANSPORTS)] = pick([undefined, undefined, "refused", "hang", "mute", "killed"])),
    () => (network.faults.command = pick([undefined, undefined, undefined, "refused", "hang"])),
  ];
  for (let step = 0; step < STEPS; step++) {
    pick(steps)();
    await world.advance(Math.floor(random() * pick([5, 50, 2_000])));
  }
  server.mangle = (publication) => [publication];
  network.faults = {};
  await world.advance(90_000);
  for (const name of ["a", "b"]) server.publish(name, "last");
  await world.advance(60_000);

  for (const { client, got, guest } of clients) {
    assert.equal(client.state, "connected", `seed ${seed}`);
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
  for (const { what, isSettled } of promises) assert.ok(isSettled, `seed ${seed}: ${what} never ended`);
  for (const { data, outcome } of published) {
    const times = server.log("b").entries.filter((entry) => entry.data.unique === data.unique).length;
    if (outcome.value) assert.equal(times, 1, `seed ${seed}: answered, so in the log once`);
    else if (outcome.error.name === "outcome_unknown") assert.ok(times <= 1, `seed ${seed}: never twice`);
    else assert.equal(times, 0, `seed ${seed}: ${outcome.error.name} says that nothing happened`);
  }
  // Both kinds of an end: nothing is left behind.
  for (const { client } of clients) client.disconnect();
  await world.advance(1_000);
  assert.equal(network.open, 0, `seed ${seed}: connections left`);
};

test(`random runs (${seeds.length} seeds)`, async (t) => {
  for (const seed of seeds) await t.test(`seed ${seed}`, () => run(seed));
});
