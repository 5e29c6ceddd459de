/** What only polls have to get right: gateways' patience, lost answers, abandoned polls, the sealed list. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, record } from "./support/world.js";

const polls = (world) => {
  const seen = [];
  const { poll } = world.server;
  world.server.poll = function (command, ...rest) {
    seen.push({ ...command, atMs: world.clock.now() });
    return poll.call(this, command, ...rest);
  };
  return seen;
};

const connected = async (options) => {
  const world = new World(options);
  const seen = polls(world);
  const client = await world.connected({ transports: ["longpoll"] });
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  return { world, seen, client, channel, got };
};

test("polls wait as long as the server advises, one at a time", async () => {
  const { world, seen } = await connected();
  seen.length = 0;
  await world.advance(100_000);
  assert.ok(seen.length >= 3 && seen.length <= 5, `${seen.length}`);
  assert.ok(seen.every(({ wait_s }) => wait_s === 25));
});

test("a wait never reaches the silence at which the leg is dropped", async () => {
  const { world, seen, client } = await connected({ heartbeatIntervalS: 4 });
  await world.advance(60_000);
  assert.equal(seen.at(-1).wait_s, 8);
  assert.equal(client.stats.reconnects, 0);
});

for (const status of [504, 502, 524, 408]) {
  test(`a gateway that answers ${status} to a waiting poll is asked for shorter ones`, async () => {
    const { world, seen, client, got } = await connected();
    const fetch = world.network.fetch.bind(world.network);
    const patienceMs = 10_000;
    world.network.patient = (url, request) =>
      new Promise((resolve, reject) => {
        const timer = world.clock.setTimeout(() => resolve(new Response("gone", { status })), patienceMs);
        fetch(url, request)
          .then(resolve, reject)
          .finally(() => world.clock.clearTimeout(timer));
      });
    client.disconnect();
    const other = await world.connected({ transports: ["longpoll"], environment: { fetch: world.network.patient } });
    const channel = other.channel("a");
    const more = record(channel);
    await world.outcome(channel.subscribe());
    await world.advance(60_000);
    assert.ok(seen.at(-1).wait_s < 10, `${seen.at(-1).wait_s}`);
    assert.equal(other.stats.reconnects, 0);
    world.server.publish("a", 1);
    await world.advance(100);
    assert.equal(more.length, 1);
    assert.equal(got.length, 0);
  });
}

test("an answer that is lost costs nothing: the next poll asks from the same positions", async () => {
  const { world, client, got } = await connected();
  world.server.publish("a", 1);
  world.network.cut();
  await world.advance(2_000);
  world.server.publish("a", 2);
  await world.advance(100);
  assert.deepEqual(
    got.map(({ offset }) => offset),
    [1, 2],
  );
  assert.equal(client.stats.dropped, 0);
});

test("a change of the list abandons the poll in flight and repeats it with the new list", async () => {
  const { world, seen, client } = await connected();
  await world.advance(1_000);
  const before = seen.length;
  const other = record(client.channel("b"));
  await world.outcome(client.channel("b").subscribe(), 100);
  assert.equal(seen.length, before + 1);
  assert.ok(seen.at(-1).sealed.includes('"b"'));
  assert.deepEqual(
    seen.at(-1).positions.map(({ channel }) => channel),
    ["a", "b"],
  );
  world.server.publish("b", 1);
  await world.advance(50);
  assert.equal(other.length, 1);
});

test("many channels at once: each change builds on the one before", async () => {
  const { world, client } = await connected();
  const names = Array.from({ length: 20 }, (_, i) => `many:${i}`);
  const got = names.map((name) => record(client.channel(name)));
  const outcomes = names.map((name) => world.outcome(client.channel(name).subscribe(), 0));
  await world.advance(2_000);
  for (const outcome of outcomes) assert.deepEqual(await outcome, { value: undefined });
  for (const name of names) world.server.publish(name, 1);
  await world.advance(500);
  assert.ok(got.every(({ length }) => length === 1));
});

test("a poll that lands where the session is unknown: a new session, the same positions", async () => {
  const { world, client, got } = await connected();
  world.server.publish("a", 1);
  await world.advance(50);
  const { session } = client;
  world.server.sessions.clear();
  world.server.publish("a", 2);
  await world.advance(60_000);
  world.server.publish("a", 3);
  await world.advance(100);
  assert.notEqual(client.session, session);
  assert.deepEqual(
    got.map(({ offset }) => offset),
    [1, 2, 3],
  );
  assert.equal(client.stats.reconnects, 0, "the leg goes on");
});

test("empty answers that come at once do not become a hot loop", async () => {
  const { world, seen } = await connected();
  world.server.poll = (command, token, answer) => {
    seen.push(command);
    answer([]);
  };
  seen.length = 0;
  const [session] = world.server.sessions.values();
  session.waiting("older");
  await world.advance(10_000);
  assert.ok(seen.length > 5 && seen.length <= 21, `${seen.length}`);
});

test("replaced: told in the answer to a poll", async () => {
  const { world, client } = await connected();
  const [session] = world.server.sessions.values();
  session.current.attempt = 99;
  session.waiting("older");
  await world.advance(3_000);
  assert.equal(client.state, "connected");
  assert.notEqual(client.session, session.id);
});

test("polls that are cut after the same silence get shorter; cut at random, they do not", async () => {
  for (const [cuts, expected] of [
    [[10_000, 10_300], 6.18],
    [[10_000, 3_000, 17_000], 25],
  ]) {
    const { world, seen, client, got } = await connected();
    for (const ms of cuts) {
      await world.advance(ms);
      world.network.cut();
      await world.advance(20);
      world.server.publish("a", ms);
      await world.advance(20);
    }
    assert.ok(Math.abs(seen.at(-1).wait_s - expected) < 0.1);
    assert.equal(client.stats.reconnects, 0, "the leg goes on");
    assert.equal(got.length, cuts.length);
  }
});
