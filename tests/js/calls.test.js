/** Calls, giving up, reading with `for await`, and asking for a token. Each case runs over every transport. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World } from "./support/world.js";

const ALL = ["websocket", "sse", "longpoll"];

const each = (name, run, options) => {
  for (const transport of ALL) {
    test(`${transport}: ${name}`, async () => {
      const world = new World(options);
      await run(world, await world.connected({ transports: [transport] }), transport);
    });
  }
};

each("a call resolves with what the handler returns, or rejects with what it refuses", async (world, client) => {
  world.server.calls.set("add", ([a, b]) => a + b);
  assert.deepEqual(await world.outcome(client.call("add", [1, 2])), { value: 3 });
  const { error } = await world.outcome(client.call("nothing"));
  assert.deepEqual([error.number, error.name], [3406, "not_found"]);
});

each("a call whose answer is lost is carried out once", async (world, client) => {
  let count = 0;
  world.server.calls.set("next", () => ++count);
  const promise = client.call("next");
  await world.advance(1);
  client.cut();
  assert.deepEqual(await world.outcome(promise, 5_000), { value: 1 });
  assert.equal(count, 1);
  const keys = world.server.received.filter(({ method }) => method === "call").map(({ key }) => key);
  assert.ok(keys.every((key) => key && key === keys[0]));
});

each("what is given up is rejected with the signal's reason, and its answer is nobody's", async (world, client) => {
  world.server.publish("a", 1);
  world.server.calls.set("add", () => 1);
  const channel = client.channel("a");
  const asks = {
    call: (signal) => client.call("add", [], { signal }),
    publish: (signal) => channel.publish(1, { signal }),
    history: (signal) => channel.history({ signal }),
    presence: (signal) => channel.presence({ signal }),
  };
  for (const [name, ask] of Object.entries(asks)) {
    const early = await world.outcome(ask(AbortSignal.abort(new Error("before"))), 500);
    assert.equal(early.error?.message, "before", name);
    const aborter = new AbortController();
    const promise = ask(aborter.signal);
    promise.catch(() => {});
    aborter.abort(new Error("meanwhile"));
    assert.equal((await world.outcome(promise, 2_000)).error?.message, "meanwhile", name);
  }
  assert.equal(client.state, "connected");
  assert.deepEqual(await world.outcome(client.call("add")), { value: 1 });
});

each("signals that are kept by the application keep nothing of ours", async (world, client) => {
  world.server.calls.set("add", () => 1);
  const aborter = new AbortController();
  let count = 0;
  const { signal } = aborter;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...rest) => (count++, add(...rest));
  signal.removeEventListener = (...rest) => (count--, remove(...rest));
  for (let i = 0; i < 5; i++) await world.outcome(client.call("add", i, { signal }));
  assert.equal(count, 0);
});

each("for await gives every publication in order, and ends with the subscription", async (world, client) => {
  const channel = client.channel("a");
  const got = [];
  const reading = (async () => {
    for await (const { offset, data } of channel) got.push([offset, data]);
    return "ended";
  })();
  await world.advance(300);
  assert.equal(channel.state, "subscribed");
  for (let i = 1; i <= 50; i++) world.server.publish("a", i);
  await world.advance(500);
  assert.deepEqual(
    got,
    Array.from({ length: 50 }, (_, i) => [i + 1, i + 1]),
  );
  channel.unsubscribe();
  assert.deepEqual(await world.outcome(reading), { value: "ended" });
});

each("for await throws what ends the subscription", async (world, client) => {
  const channel = client.channel("a");
  const reading = (async () => {
    for await (const _ of channel);
  })();
  reading.catch(() => {});
  await world.advance(300);
  const [session] = [...world.server.sessions.values()].filter(({ positions }) => positions.has("a"));
  world.server.denied.add("a");
  world.server.endSubscription(session, "a", 3403);
  assert.equal((await world.outcome(reading)).error.number, 3403);
  const refused = (async () => {
    for await (const _ of channel);
  })();
  assert.equal((await world.outcome(refused, 2_000)).error.number, 3403);
});

each("who leaves the loop takes his listeners along, and leaves the subscription", async (world, client) => {
  const channel = client.channel("a");
  let listeners = 0;
  const on = channel.on.bind(channel);
  channel.on = (...rest) => {
    const off = on(...rest);
    listeners++;
    return () => (listeners--, off());
  };
  const first = (async () => {
    for await (const { data } of channel) return data;
  })();
  await world.advance(300);
  assert.equal(listeners, 2);
  world.server.publish("a", "x");
  assert.deepEqual(await world.outcome(first), { value: "x" });
  assert.equal(listeners, 0);
  assert.equal(channel.state, "subscribed");
});

each("who reads too slowly is told instead of missing some", async (world, client) => {
  const channel = client.channel("a");
  const got = [];
  let go;
  const gate = new Promise((resolve) => (go = resolve));
  const reading = (async () => {
    for await (const { offset } of channel) {
      got.push(offset);
      await gate;
    }
  })();
  reading.catch(() => {});
  await world.advance(300);
  for (let i = 0; i < 1_100; i++) world.server.publish("a", i);
  await world.advance(3_000);
  go();
  const { error } = await world.outcome(reading);
  assert.equal(error.name, "limit_exceeded");
  assert.deepEqual(
    got,
    Array.from(got, (_, i) => i + 1),
  );
  assert.ok(got.length >= 1_024);
});

for (const transport of ALL) {
  test(`${transport}: refresh asks for a token and shows it`, async () => {
    const world = new World();
    const tokens = [world.server.newToken(), world.server.newToken()];
    let asked = 0;
    const client = await world.connected({ transports: [transport], getToken: async () => tokens[asked++] });
    assert.equal(asked, 1);
    assert.deepEqual(await world.outcome(client.refresh(), 500), { value: undefined });
    assert.equal(asked, 2);
    await world.advance(30_000); // the next poll
    const [session] = world.server.sessions.values();
    assert.equal(session.current.token, tokens[1]);
    assert.equal(client.state, "connected");
  });
}

for (const transport of ["sse", "longpoll"]) {
  test(`${transport}: nothing waits behind a call`, async () => {
    const world = new World();
    const slowly = async (url, options) => {
      const response = await world.network.fetch(url, options);
      const isCall = options.body.includes('"method":"call"');
      if (isCall) await new Promise((resolve) => world.clock.setTimeout(resolve, 15_000));
      return response;
    };
    const client = await world.connected({ transports: [transport], environment: { fetch: slowly } });
    world.server.calls.set("slow", () => "done");
    const call = client.call("slow");
    call.then(() => order.push("call"));
    const order = [];
    assert.ok("value" in (await world.outcome(client.publish("a", 1), 500)));
    order.push("publish");
    assert.deepEqual(await world.outcome(call, 20_000), { value: "done" });
    assert.deepEqual(order, ["publish", "call"]);
    assert.equal(client.stats.legs, 1);
  });
}

test("a question that the server refuses was answered all the same: the stream is alive", async () => {
  const world = new World();
  let isIssuerAway = false;
  const refusing = (url, options) =>
    isIssuerAway && url.endsWith("/command")
      ? Promise.resolve(Response.json({ number: 3504, name: "keys_unavailable" }, { status: 503 }))
      : world.network.fetch(url, options);
  const client = await world.connected({ transports: ["sse"], environment: { fetch: refusing } });
  isIssuerAway = true;
  world.network.wake();
  await world.advance(1_000);
  assert.equal(client.state, "connected");
  assert.equal(client.stats.reconnects, 0);
  assert.equal(world.network.opened.length, 1);
});

/** A fetch that refuses the first request to a path, and how many were made to it. */
const refusingOnce = (world, path, answer) => {
  const made = { count: 0 };
  made.fetch = (url, options) =>
    url.endsWith(path) && made.count++ === 0 ? Promise.resolve(answer(options)) : world.network.fetch(url, options);
  return made;
};

test("who may not come so often comes at the very moment it was told", async () => {
  const world = new World();
  const problem = { number: 4429, name: "rate_limited", limit: "connects_per_s", detail: "!", retry_after_s: 7.25 };
  const asked = refusingOnce(world, "/stream", () =>
    Response.json(problem, { status: 429, headers: { "Retry-After": "8" } }),
  );
  const client = world.client({ transports: ["sse"], environment: { fetch: asked.fetch } });
  client.connect();
  await world.advance(7_200);
  assert.equal(asked.count, 1);
  await world.advance(1_000);
  assert.equal(asked.count, 2);
  assert.equal(client.state, "connected");
});

test("a subscribe that is refused for its rate is asked for again, a publish tells when to come", async () => {
  const world = new World();
  const refused = { number: 3429, name: "limit_exceeded", limit: "commands_per_s", detail: "!", retry_after_s: 3 };
  const replies = ({ body }) =>
    Response.json({ replies: JSON.parse(body).commands.map(({ id }) => ({ id, error: refused })) });
  const asked = refusingOnce(world, "/command", replies);
  const client = await world.connected({ transports: ["longpoll"], environment: { fetch: asked.fetch } });
  const channel = client.channel("b");
  const joined = channel.subscribe();
  await world.advance(2_900);
  assert.equal(asked.count, 1);
  await world.advance(3_200);
  await joined;
  assert.equal(channel.state, "subscribed");
  asked.count = 0;
  const { error } = await world.outcome(client.publish("b", 1));
  assert.deepEqual([error.number, error.retryAfterS], [3429, 3]);
  assert.equal(client.state, "connected");
});
