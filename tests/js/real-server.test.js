/**
 * The client against a real server: TEST_SERVER_URL is its API ("http://127.0.0.1:8000/v1"), TEST_SERVER_TOKEN_URL
 * where its development issuer gives tokens (to TEST_SERVER_CLIENT_ID, "demo"). Skipped, and says so, without them.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Client } from "../../static/hybrid/index.js";
import { MinimalWebSocket } from "./support/websocket.js";
import { record } from "./support/world.js";

const { TEST_SERVER_URL: url, TEST_SERVER_TOKEN_URL: tokenUrl } = process.env;
const CLIENT_ID = process.env.TEST_SERVER_CLIENT_ID ?? "demo";
/** Where connections go to several nodes in turn, each attach may begin a session of another one. */
const HAS_ONE_NODE = !process.env.TEST_SERVER_NODES;
const TRANSPORTS = ["websocket", "sse", "longpoll"];
const skip = url && tokenUrl ? false : "SKIPPED: set TEST_SERVER_URL and TEST_SERVER_TOKEN_URL";
const options = { skip, timeout: 30_000 };

const getToken = async () => {
  const response = await fetch(tokenUrl, {
    method: "POST",
    body: new URLSearchParams({ grant_type: "client_credentials", client_id: CLIENT_ID }),
  });
  assert.ok(response.ok, `a token: HTTP ${response.status}`);
  return (await response.json()).access_token;
};

const open = (t, settings) => {
  const client = new Client({
    url,
    getToken,
    ...settings,
    environment: { WebSocket: globalThis.WebSocket ?? MinimalWebSocket },
  });
  client.log = [];
  for (const event of ["state", "transport", "leg", "error"]) {
    client.on(event, (value) => client.log.push(`${event} ${value.message ?? JSON.stringify(value)}`));
  }
  t.after(() => client.disconnect());
  client.connect();
  return client;
};

/** Resolves when `condition` holds, looked at each time the emitter says something. */
const until = (emitter, event, condition) =>
  new Promise((resolve) => {
    const look = () => {
      if (!condition()) return;
      off();
      resolve();
    };
    const off = emitter.on(event, look);
    look();
  });

const received = (channel, got, count) => until(channel, "publication", () => got.length >= count);
const expected = (count) => Array.from({ length: count }, (_, i) => [i + 1, i + 1]);
const pairs = (got) => got.map(({ offset, data }) => [offset, data]);

for (const transport of TRANSPORTS) {
  test(`real server, ${transport}: subscribe, publish, history, unsubscribe`, options, async (t) => {
    const client = open(t, { transports: [transport] });
    const channel = client.channel(`test:${randomUUID()}`);
    const got = record(channel);
    await channel.subscribe();
    assert.equal(client.transport, transport);
    const key = randomUUID();
    const { position } = await channel.publish({ text: "é😀\n" }, { type: "said", key });
    assert.equal(position.offset, 1);
    const again = await channel.publish({ text: "é😀\n" }, { type: "said", key });
    assert.deepEqual([again.position, again.repeated], [position, true]);
    await assert.rejects(channel.publish({ text: "other" }, { key }), { number: 3415 });
    await received(channel, got, 1);
    assert.deepEqual([got[0].data, got[0].type, got[0].transport], [{ text: "é😀\n" }, "said", transport]);
    const { publications, head } = await channel.history({ limit: 1 });
    assert.deepEqual([publications.length, head.offset], [1, 1]);
    await channel.unsubscribe();
    await channel.publish("nobody hears it");
    await channel.subscribe();
    await channel.publish("back");
    await received(channel, got, 2);
    assert.deepEqual(got.map(({ data }) => data).slice(1), ["back"]);
  });

  test(
    `real server, ${transport}: cut again and again while others publish: every publication once, in order`,
    options,
    async (t) => {
      const client = open(t, { transports: [transport] });
      const publisher = open(t, { transports: ["longpoll"] });
      const channel = client.channel(`test:${randomUUID()}`);
      const got = record(channel);
      await channel.subscribe();
      const { session } = client;
      for (let i = 1; i <= 60; i++) {
        await publisher.publish(channel.name, i);
        if (i % 20 === 0) client.cut();
      }
      await received(channel, got, 60);
      assert.deepEqual(pairs(got), expected(60), client.log.join("\n"));
      assert.equal(client.stats.gaps, 0);
      if (HAS_ONE_NODE) assert.equal(client.session, session, "the server still knew it");
    },
  );
}

test(
  "real server: a tour of all moves while others publish: every publication once, in order, never disconnected",
  options,
  async (t) => {
    const client = open(t, { transports: ["websocket"] });
    const publisher = open(t, { transports: ["websocket"] });
    const channel = client.channel(`test:${randomUUID()}`);
    const got = record(channel);
    await channel.subscribe();
    const { session } = client;
    const tour = ["sse", "longpoll", "websocket", "longpoll", "sse", "websocket"];
    let count = 0;
    let isMoving = true;
    const publishing = (async () => {
      while (isMoving) await publisher.publish(channel.name, ++count);
    })();
    for (const transport of tour) {
      await client.moveTo(transport);
      assert.equal(client.transport, transport);
      if (HAS_ONE_NODE) assert.equal(client.session, session);
      const other = client.channel(`test:${randomUUID()}`);
      await other.subscribe();
      await other.unsubscribe();
    }
    isMoving = false;
    await publishing;
    await received(channel, got, count);
    assert.deepEqual(pairs(got), expected(count), client.log.join("\n"));
    assert.deepEqual([client.stats.gaps, client.stats.reconnects], [0, 0], client.log.join("\n"));
    assert.deepEqual([...new Set(got.map(({ transport }) => transport))].sort(), [...TRANSPORTS].sort());
  },
);

test("real server: many channels in one attach, and from the start of each", options, async (t) => {
  const publisher = open(t, { transports: ["longpoll"] });
  const names = Array.from({ length: 30 }, () => `test:${randomUUID()}`);
  for (const name of names) await publisher.publish(name, 1);
  for (const transport of TRANSPORTS) {
    const client = open(t, { transports: [transport] });
    const channels = names.map((name) => client.channel(name, { position: { offset: 0 } }));
    const got = channels.map(record);
    await Promise.all(channels.map((channel) => channel.subscribe()));
    await Promise.all(channels.map((channel, index) => received(channel, got[index], 1)));
    for (const one of got) assert.deepEqual(pairs(one), [[1, 1]]);
  }
});

test("real server: a bad token is refused for good, on each transport", options, async (t) => {
  for (const transport of TRANSPORTS) {
    const client = open(t, { transports: [transport], getToken: async () => "not.a.token" });
    await until(client, "state", () => client.state === "disconnected");
    assert.ok(
      client.log.some((line) => line.startsWith("error")),
      client.log.join("\n"),
    );
  }
});
