/** Changing the transport of a running session, and coming back after a loss: nothing lost, repeated or reordered. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, events, record } from "./support/world.js";

const ALL = ["websocket", "sse", "longpoll"];

const subscribed = async (world, options) => {
  const client = await world.connected(options);
  const channel = client.channel("chat:lobby");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  return { client, channel, got };
};

const offsets = (got) => got.map(({ offset }) => offset);

for (const from of ALL) {
  for (const to of ALL) {
    test(`${from} to ${to}: make before break`, async () => {
      const world = new World();
      world.network.latencyMs = () => 20 + Math.floor(world.random() * 60);
      const { client, got } = await subscribed(world, { transports: [from] });
      const { session } = client;
      const moved = world.outcome(client.moveTo(to), 0);
      for (let i = 0; i < 60; i++) {
        world.server.publish("chat:lobby", i);
        await world.advance(10);
      }
      await world.advance(500);
      assert.deepEqual(await moved, { value: undefined });
      assert.equal(client.transport, to);
      assert.equal(client.session, session);
      assert.deepEqual(
        offsets(got),
        Array.from({ length: 60 }, (_, i) => i + 1),
      );
      assert.deepEqual([...new Set(got.map(({ transport }) => transport))], [...new Set([from, to])]);
      assert.equal(client.stats.gaps, 0);
      assert.equal(client.stats.reconnects, 0);
      assert.deepEqual(
        events(client, "state").map(({ state }) => state),
        ["connecting", "connected"],
      );
      await world.advance(2_000);
      assert.equal(world.network.open, 1, "the former leg is gone");
    });
  }

  for (const [fault, ms] of [
    ["refused", 500],
    ["hang", 11_000],
    ["mute", 11_000],
  ]) {
    const to = from === "websocket" ? "sse" : "websocket";
    test(`${from} to a ${fault} ${to}: rejected with the reason, the session stays`, async () => {
      const world = new World();
      const { client, got } = await subscribed(world, { transports: [from] });
      world.network.faults[to] = fault;
      const { error } = await world.outcome(client.moveTo(to), ms);
      assert.equal(error.name, "move_failed");
      assert.match(error.message, fault === "refused" ? /1006|network error/ : /no answer/);
      world.server.publish("chat:lobby", 1);
      await world.advance(100);
      assert.equal(client.transport, from);
      assert.deepEqual(offsets(got), [1]);
      assert.equal(client.stats.legs, 1);
    });
  }

  test(`${from} cut: goes on from the position, in the same session`, async () => {
    const world = new World();
    const { client, channel, got } = await subscribed(world, { transports: [from] });
    const { session } = client;
    const states = [];
    channel.on("state", ({ state }) => states.push(state));
    for (let i = 0; i < 3; i++) {
      world.server.publish("chat:lobby", i);
      world.network.cut();
      world.server.publish("chat:lobby", i);
      await world.advance(3_000);
    }
    assert.deepEqual(offsets(got), [1, 2, 3, 4, 5, 6]);
    assert.equal(client.session, session);
    // A poll that was cut after some waiting is only sent again.
    assert.equal(client.stats.reconnects, from === "longpoll" ? 0 : 3);
    if (from !== "longpoll") assert.deepEqual(states.slice(0, 2), ["subscribing", "subscribed"]);
  });

  test(`${from}: the server forgets everything but its logs: a new session goes on from the position`, async () => {
    const world = new World();
    const { client, got } = await subscribed(world, { transports: [from] });
    world.server.publish("chat:lobby", 1);
    await world.advance(50);
    const { session } = client;
    world.server.forgetSessions();
    world.server.publish("chat:lobby", 2);
    await world.advance(30_000);
    world.server.publish("chat:lobby", 3);
    await world.advance(100);
    assert.notEqual(client.session, session);
    assert.deepEqual(offsets(got), [1, 2, 3]);
  });

  test(`${from}: the log is lost: a reset, then the new log from there`, async () => {
    const world = new World();
    const { client, channel, got } = await subscribed(world, { transports: [from] });
    world.server.publish("chat:lobby", 1);
    await world.advance(50);
    world.server.log("chat:lobby").lose();
    world.server.publish("chat:lobby", "other epoch");
    client.cut();
    await world.advance(2_000);
    assert.equal(got.resets.length, 1);
    world.server.publish("chat:lobby", 2);
    await world.advance(100);
    assert.deepEqual(
      got.map(({ offset, data }) => [offset, data]),
      [
        [1, 1],
        [2, 2],
      ],
    );
    assert.equal(channel.position.offset, 2);
  });

  test(`${from}: history does not reach back far enough: a reset to the head`, async () => {
    const world = new World();
    const { client, channel, got } = await subscribed(world, { transports: [from] });
    world.server.publish("chat:lobby", 1);
    await world.advance(50);
    world.network.isDown = true;
    world.network.cut();
    for (let i = 2; i <= 10; i++) world.server.publish("chat:lobby", i);
    world.server.log("chat:lobby").trim(3);
    world.network.isDown = false;
    await world.advance(3_000);
    assert.deepEqual(
      got.resets.map(({ offset }) => offset),
      [10],
    );
    assert.equal(channel.position.offset, 10);
    world.server.publish("chat:lobby", 11);
    await world.advance(100);
    assert.deepEqual(offsets(got), [1, 11]);
    assert.equal(client.stats.gaps, 0);
  });

  test(`${from} to all others, cut at every step of the way`, async () => {
    for (const to of ALL) {
      for (let atMs = 0; atMs <= 100; atMs += 5) {
        const world = new World({ seed: atMs });
        world.network.latencyMs = () => 10;
        const { client, got } = await subscribed(world, { transports: [from] });
        const moved = world.outcome(client.moveTo(to), 0);
        for (let ms = 0; ms < 120; ms += 5) {
          if (ms === atMs) world.network.cut();
          world.server.publish("chat:lobby", ms);
          await world.advance(5);
        }
        await world.advance(3_000);
        assert.equal(client.state, "connected");
        assert.deepEqual(
          offsets(got),
          Array.from({ length: 24 }, (_, i) => i + 1),
          `${to}, cut at ${atMs} ms`,
        );
        const { error, ...rest } = await moved;
        assert.ok(error || "value" in rest, "the promise has come to an end");
      }
    }
  });
}

test("what the former leg still delivers after the confirm is not taken", async () => {
  const world = new World();
  const { client, got } = await subscribed(world, { transports: ["websocket"] });
  const [session] = world.server.sessions.values();
  const former = session.current;
  // A server that is late to stop: the former leg goes on with what comes.
  const { attach } = world.server;
  world.server.attach = function (leg, ...rest) {
    attach.call(this, leg, ...rest);
    world.server.publish("chat:lobby", "a");
  };
  await world.outcome(client.moveTo("sse"), 0);
  await world.advance(8);
  former.write({ publication: world.server.log("chat:lobby").entries[0] });
  await world.advance(500);
  assert.deepEqual(offsets(got), [1]);
  assert.equal(client.transport, "sse");
});

test("a second move calls the first off", async () => {
  const world = new World();
  const { client } = await subscribed(world);
  world.network.faults.longpoll = "hang";
  const first = world.outcome(client.moveTo("longpoll"), 0);
  const second = await world.outcome(client.moveTo("sse"));
  assert.match((await first).error.message, /another move/);
  assert.deepEqual(second, { value: undefined });
});

test("moving is refused without a connection, and to what does not exist", async () => {
  const world = new World();
  const idle = world.client();
  assert.equal((await world.outcome(idle.moveTo("sse"))).error.name, "disconnected");
  const client = await world.connected();
  assert.match((await world.outcome(client.moveTo("pigeon"))).error.message, /unsupported/);
  assert.equal(client.transport, "websocket");
});

test("the transport moved to is kept: not probed away from, and first after a loss", async () => {
  const world = new World();
  const client = await world.connected();
  await world.outcome(client.moveTo("longpoll"));
  await world.advance(3_600_000);
  assert.equal(client.transport, "longpoll");
  client.cut();
  await world.advance(2_000);
  assert.equal(client.transport, "longpoll");
});

test("a silent leg is asked when a heartbeat is overdue, and dropped when nothing comes; not before", async () => {
  for (const transport of ["websocket", "sse"]) {
    const world = new World();
    const client = await world.connected({ transports: [transport] });
    const [session] = world.server.sessions.values();
    await world.advance(100_000);
    assert.equal(client.stats.reconnects, 0, "heartbeats keep it");
    session.current.write = () => {};
    const silentSinceMs = world.clock.now();
    let silentMs;
    client.on("state", ({ state }) => {
      if (state === "connecting") silentMs = world.clock.now() - silentSinceMs;
    });
    await world.advance(70_000);
    assert.ok(silentMs > 20_000 && silentMs <= 32_000, `${transport}: ${silentMs}`);
    assert.ok(events(client, "leg").some(({ event, reason }) => event === "lost" && reason === "silence"));
    assert.equal(client.state, "connected");
  }
});

test("the client's heartbeats keep its WebSocket, even when its timers are throttled to a minute", async () => {
  const world = new World();
  let isThrottled = false;
  const { setTimeout } = world.clock;
  const client = await world.connected({
    transports: ["websocket"],
    environment: { setTimeout: (callback, ms) => setTimeout(callback, isThrottled ? Math.max(ms, 60_000) : ms) },
  });
  isThrottled = true;
  await world.advance(600_000);
  assert.equal(client.stats.reconnects, 0);
  assert.equal(client.state, "connected");
});

test("a socket that died in sleep is noticed at the moment of waking", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  world.clock.jump(3_600_000);
  world.network.wake();
  assert.equal(client.state, "connecting");
  await world.advance(2_000);
  assert.equal(client.state, "connected");
});

test("replaced without a newer leg of one's own: a new session after a jittered second", async () => {
  const world = new World();
  const { client, got } = await subscribed(world);
  const [session] = world.server.sessions.values();
  session.current.write({ disconnect: { code: 4509, reason: "replaced", reconnect: false } });
  await world.advance(400);
  assert.equal(client.state, "connecting");
  await world.advance(2_000);
  assert.equal(client.state, "connected");
  assert.notEqual(client.session, session.id);
  world.server.publish("chat:lobby", 1);
  await world.advance(50);
  assert.deepEqual(offsets(got), [1]);
});

test("stay away means stay away, in a push, in a close and in an answer", async () => {
  for (const code of [4503, 4500, 4504, 4505]) {
    const world = new World();
    const { client, channel } = await subscribed(world);
    const pending = world.outcome(channel.publish(1), 0);
    const [session] = world.server.sessions.values();
    session.current.end(code, "no");
    await world.advance(60_000);
    assert.equal(client.state, "disconnected");
    assert.equal(events(client, "error").at(-1).number, code);
    assert.ok("error" in (await pending) || "value" in (await pending));
    assert.deepEqual(world.network.opened, ["websocket"]);
  }
  const world = new World();
  const client = world.client({ getToken: async () => "forged" });
  client.connect();
  await world.advance(60_000);
  assert.equal(client.state, "disconnected");
  assert.equal(events(client, "error")[0].number, 4501);
  const pushed = new World();
  const other = await pushed.connected({ transports: ["sse"] });
  const [session] = pushed.server.sessions.values();
  session.current.write({ disconnect: { code: 4450, reason: "internal", reconnect: false } });
  await pushed.advance(60_000);
  assert.equal(other.state, "disconnected");
});

test("a WebSocket whose frames are refused is not tried again; another transport is", async () => {
  const world = new World();
  const client = await world.connected();
  const [session] = world.server.sessions.values();
  session.current.end(1009, "too large");
  await world.advance(5_000);
  assert.equal(client.transport, "sse");
  world.network.opened = [];
  await world.advance(600_000);
  assert.ok(!world.network.opened.includes("websocket"));
});

test("draining: come back after the delay given, not before", async () => {
  const world = new World();
  const client = await world.connected();
  const [session] = world.server.sessions.values();
  session.current.write({ disconnect: { code: 1012, reason: "draining", delay_ms: 2_000 } });
  await world.advance(1_900);
  assert.equal(client.state, "connecting");
  assert.equal(world.network.opened.length, 1);
  await world.advance(1_000);
  assert.equal(client.state, "connected");
});

test("a rotated stream is opened again at once", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["sse"] });
  const [session] = world.server.sessions.values();
  session.current.write({ disconnect: { code: 4412, reason: "rotated" } });
  await world.advance(40);
  assert.equal(client.state, "connected");
  assert.equal(client.stats.reconnects, 1);
});

test("a move that the application asks for is not given up for one of our own", async () => {
  const world = new World();
  Object.assign(world.network.faults, { websocket: "hang", sse: "refused" });
  const client = await world.connected();
  assert.equal(client.transport, "longpoll");
  world.network.faults.sse = undefined;
  world.network.opened = [];
  while (!world.network.opened.includes("websocket")) await world.advance(100);
  assert.deepEqual(await world.outcome(client.moveTo("sse")), { value: undefined });
  assert.equal(client.transport, "sse");
  await world.advance(5_000);
  assert.equal(client.transport, "sse");
});
