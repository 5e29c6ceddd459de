/** Tokens: asked for when needed and not otherwise; where they travel; what their end does. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, events, record } from "./support/world.js";

const ALL = ["websocket", "sse", "longpoll"];

const withTokens = (world, livesS) => {
  const asked = { count: 0 };
  const getToken = async () => {
    asked.count++;
    return world.server.newToken(livesS);
  };
  return { asked, getToken };
};

for (const transport of ALL) {
  test(`${transport}: asked once for all legs and commands, never in a URL`, async () => {
    const world = new World();
    const { asked, getToken } = withTokens(world, 1e6);
    const client = await world.connected({ transports: [transport], getToken });
    await world.outcome(client.channel("a").subscribe());
    for (let i = 0; i < 3; i++) {
      world.network.cut();
      await world.advance(3_000);
    }
    for (const to of ALL) await world.outcome(client.moveTo(to));
    await world.outcome(client.publish("a", 1));
    assert.equal(asked.count, 1);
    assert.ok(world.network.urls.every((url) => !url.includes("token")));
    assert.ok(world.network.tokensSeen.every((token) => token === world.network.tokensSeen[0]));
  });

  test(`${transport}: a token's whole life, several times over: refreshed ahead of time, nothing lost`, async () => {
    const world = new World();
    const { asked, getToken } = withTokens(world, 300);
    const client = await world.connected({ transports: [transport], getToken });
    const channel = client.channel("a");
    const got = record(channel);
    await world.outcome(channel.subscribe());
    const [session] = world.server.sessions.values();
    for (let minute = 0; minute < 20; minute++) {
      const leftS = (world.server.tokens.get(session.current.token) - world.clock.now()) / 1000;
      if (leftS < 90) world.server.tell(session, { expiring: { in_s: leftS } });
      world.server.publish("a", minute);
      await world.advance(60_000);
    }
    assert.deepEqual(
      got.map(({ data }) => data),
      Array.from({ length: 20 }, (_, i) => i),
    );
    assert.equal(client.stats.reconnects, 0);
    assert.ok(asked.count >= 4 && asked.count <= 7, `${asked.count}`);
    assert.ok(world.clock.now() < world.server.tokens.get(session.current.token));
    assert.equal(
      world.server.received.filter(({ method }) => method === "refresh").length > 0,
      transport !== "longpoll",
    );
  });

  test(`${transport}: 4401 ends the leg: back with another token, from the position`, async () => {
    const world = new World();
    const { asked, getToken } = withTokens(world, 1e6);
    const client = await world.connected({ transports: [transport], getToken });
    const channel = client.channel("a");
    const got = record(channel);
    await world.outcome(channel.subscribe());
    const [session] = world.server.sessions.values();
    const old = session.current.token;
    world.server.tokens.set(old, 0);
    if (transport === "longpoll") session.waiting("older");
    else session.current.write({ disconnect: { code: 4401, reason: "token_expired" } });
    world.server.publish("a", 1);
    await world.advance(3_000);
    assert.equal(client.state, "connected");
    assert.deepEqual(
      got.map(({ offset }) => offset),
      [1],
    );
    assert.equal(asked.count, 2);
    assert.ok(!world.network.tokensSeen.slice(-1).includes(old));
  });

  test(`${transport}: a token that ends unnoticed on the way in is asked for anew`, async () => {
    const world = new World();
    let count = 0;
    const getToken = async () => (count++ ? world.server.newToken() : world.server.newToken(-1));
    const client = world.client({ transports: [transport], getToken });
    client.connect();
    await world.advance(3_000);
    assert.equal(client.state, "connected");
    assert.equal(count, 2);
  });

  test(`${transport}: without a provider there is neither header nor auth`, async () => {
    const world = new World();
    await world.connected({ transports: [transport] });
    assert.deepEqual(world.network.tokensSeen.filter(Boolean), []);
  });
}

test("a provider that fails is a reason like any other, and is asked again", async () => {
  const world = new World();
  let fails = true;
  const getToken = async () => {
    if (fails) throw new Error("signed out");
    return world.server.newToken();
  };
  const client = world.client({ getToken });
  client.connect();
  await world.advance(100);
  assert.ok(events(client, "error")[0].attempts.every(({ reason }) => reason === "signed out"));
  fails = false;
  await world.advance(5_000);
  assert.equal(client.state, "connected");
});

test("a token that is over is not shown again after a long loss", async () => {
  const world = new World();
  const { asked, getToken } = withTokens(world, 60);
  const client = await world.connected({ transports: ["websocket"], getToken });
  world.network.isDown = true;
  world.network.cut();
  await world.advance(120_000);
  world.network.tokensSeen = [];
  world.network.isDown = false;
  await world.advance(31_000);
  assert.equal(client.state, "connected");
  assert.equal(asked.count >= 2, true);
  assert.ok(world.network.tokensSeen.every((token) => token !== "token-1"));
});
