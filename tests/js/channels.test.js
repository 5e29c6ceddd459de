/** Subscriptions, positions, and commands on their way. Each case runs over every transport. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { messagePack } from "../../static/hybrid/messagepack.js";
import { World, events, record } from "./support/world.js";

const ALL = ["websocket", "sse", "longpoll"];
const offsets = (got) => got.map(({ offset }) => offset);

const each = (name, run, options) => {
  for (const transport of ALL) {
    test(`${transport}: ${name}`, async () => {
      const world = new World(options);
      await run(world, await world.connected({ transports: [transport] }), transport);
    });
  }
};

each("the same object for the same name, whatever the name", async (world, client) => {
  for (const name of ["a", "__proto__", "constructor", "chat:ä/ö"]) {
    const channel = client.channel(name);
    assert.equal(client.channel(name), channel);
    const got = record(channel);
    assert.deepEqual(await world.outcome(channel.subscribe(), 200), { value: undefined });
    world.server.publish(name, 1);
    await world.advance(100);
    assert.deepEqual(offsets(got), [1]);
  }
  assert.throws(() => client.channel("a*"), { number: 3400 });
});

each("from now on, from history, from a position, from the start", async (world, client, transport) => {
  for (let i = 1; i <= 5; i++) world.server.publish("a", i);
  const { epoch, tag } = world.server.log("a").entries[2];
  const cases = [
    [undefined, []],
    [{ history: 2 }, [4, 5]],
    [{ position: { offset: 3, epoch, tag } }, [4, 5]],
    [{ position: { offset: 0 } }, [1, 2, 3, 4, 5]],
  ];
  for (const [start, expected] of cases) {
    const other = await world.connected({ transports: [transport] });
    const channel = other.channel("a", start);
    const got = record(channel);
    await world.outcome(channel.subscribe(), 300);
    assert.deepEqual(offsets(got), expected, JSON.stringify(start));
    assert.equal(channel.position.offset, 5);
    other.disconnect();
  }
});

each("subscribed before connecting: the attach says it all", async (world, _, transport) => {
  const client = world.client({ transports: [transport] });
  const channel = client.channel("a");
  const promise = world.outcome(channel.subscribe(), 0);
  assert.equal(channel.state, "subscribing");
  client.connect();
  await world.advance(200);
  assert.deepEqual(await promise, { value: undefined });
  assert.equal(channel.state, "subscribed");
  assert.ok(!world.server.received.some(({ method }) => method === "subscribe"));
});

each(
  "a publication carries what was published, and the transport that brought it",
  async (world, client, transport) => {
    const channel = client.channel("a");
    const got = record(channel);
    await world.outcome(channel.subscribe());
    const { value } = await world.outcome(channel.publish({ text: "é\n😀", list: [1, null] }, { type: "said" }));
    const [{ epoch, tag }] = world.server.log("a").entries;
    assert.deepEqual(value.position, { offset: 1, epoch, tag });
    assert.deepEqual(
      got,
      Object.assign(
        [{ channel: "a", offset: 1, epoch, tag, type: "said", data: { text: "é\n😀", list: [1, null] }, transport }],
        { resets: [] },
      ),
    );
    assert.deepEqual(channel.position, { offset: 1, epoch, tag });
  },
);

each("refused: subscribe rejects with the server's number, and the session lives on", async (world, client) => {
  world.server.denied.add("secret");
  const channel = client.channel("secret");
  const { error } = await world.outcome(channel.subscribe());
  assert.equal(error.number, 3403);
  assert.equal(channel.state, "unsubscribed");
  assert.equal((await world.outcome(channel.publish(1))).error.name, "forbidden");
  assert.equal(client.state, "connected");
  assert.deepEqual(await world.outcome(client.channel("a").subscribe()), { value: undefined });
});

each("refused at the attach: rejected just the same", async (world, _, transport) => {
  world.server.denied.add("secret");
  const client = world.client({ transports: [transport] });
  const promise = world.outcome(client.channel("secret").subscribe(), 0);
  client.connect();
  await world.advance(500);
  assert.equal((await promise).error.number, 3403);
});

each("unsubscribe: nothing more comes, and a later subscribe starts anew", async (world, client) => {
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  assert.deepEqual(await world.outcome(channel.unsubscribe()), { value: undefined });
  assert.equal(channel.state, "unsubscribed");
  world.server.publish("a", 1);
  await world.advance(200);
  assert.deepEqual(await world.outcome(channel.subscribe()), { value: undefined });
  world.server.publish("a", 2);
  await world.advance(200);
  assert.deepEqual(offsets(got), [2]);
  assert.equal(client.stats.gaps, 0);
});

each("a change of mind in mid-air: the last wish wins, every promise ends", async (world, client) => {
  const channel = client.channel("a");
  const got = record(channel);
  const promises = [];
  for (let i = 0; i < 5; i++) {
    promises.push(world.outcome(channel.subscribe(), 0));
    if (i % 2) await world.advance(3);
    promises.push(world.outcome(channel.unsubscribe(), 0));
    if (i % 3) await world.advance(2);
  }
  promises.push(world.outcome(channel.subscribe(), 0));
  await world.advance(1_000);
  for (const outcome of await Promise.all(promises)) {
    assert.ok("value" in outcome || outcome.error.name === "superseded");
  }
  assert.ok("value" in (await promises.at(-1)));
  for (let i = 0; i < 3; i++) world.server.publish("a", i);
  await world.advance(200);
  assert.deepEqual(offsets(got), [1, 2, 3]);
});

each("subscribe and unsubscribe with the leg cut at every step: the wish comes true", async (_, __, transport) => {
  for (let atMs = 0; atMs < 45; atMs++) {
    const world = new World({ seed: atMs + 1 });
    const client = await world.connected({ transports: [transport] });
    const channel = client.channel("a");
    const got = record(channel);
    const promises = [world.outcome(channel.subscribe(), 0)];
    for (let ms = 0; ms < 45; ms++) {
      // Before the first answer, and again when the list is known: a command of either kind is on its way at the cut.
      if (ms === 6 || ms === 16) promises.push(world.outcome(channel.unsubscribe(), 0));
      if (ms === 9 || ms === 18 || (ms === atMs + 1 && !channel.isWanted))
        promises.push(world.outcome(channel.subscribe(), 0));
      if (ms === atMs) world.network.cut();
      await world.advance(1);
    }
    await world.advance(3_000);
    world.server.publish("a", 1);
    world.server.publish("a", 2);
    await world.advance(300);
    assert.deepEqual(offsets(got), [1, 2], `cut at ${atMs} ms`);
    for (const promise of promises) assert.ok(Object.keys(await promise).length, `cut at ${atMs} ms`);
    assert.equal(channel.state, "subscribed");
  }
});

each(
  "the server ends a subscription: told once, with the reason, also when the leg breaks meanwhile",
  async (world, client) => {
    const channel = client.channel("a");
    const states = [];
    channel.on("state", ({ state, error }) => states.push([state, error?.number]));
    await world.outcome(channel.subscribe());
    const [session] = world.server.sessions.values();
    world.server.endSubscription(session, "a", 3403);
    world.network.cut();
    await world.advance(3_000);
    assert.deepEqual(states.at(-1), ["unsubscribed", 3403]);
    assert.equal(states.filter(([, number]) => number).length, 1);
    assert.ok(session.kept.length <= 1);
  },
);

test("a numbered push that comes again is dropped", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const channel = client.channel("a");
  await world.outcome(channel.subscribe());
  const [session] = world.server.sessions.values();
  world.server.endSubscription(session, "a", 3403);
  await world.advance(50);
  await world.outcome(channel.subscribe());
  session.current.write(session.kept[0]);
  await world.advance(50);
  assert.equal(channel.state, "subscribed");
});

each("a subscribe that the broker cannot carry out now is asked again until it can", async (world, client) => {
  world.server.failing.set("a", 3);
  const promise = world.outcome(client.channel("a").subscribe(), 0);
  await world.advance(1_000);
  assert.deepEqual(await promise, {});
  await world.advance(15_000);
  assert.deepEqual(await promise, { value: undefined });
});

test("a repetition on the wire is dropped and counted", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  world.server.mangle = (publication) => [publication, publication];
  for (let i = 0; i < 3; i++) world.server.publish("a", i);
  await world.advance(100);
  assert.deepEqual(offsets(got), [1, 2, 3]);
  assert.deepEqual([client.stats.received, client.stats.dropped, client.stats.gaps], [3, 3, 0]);
});

for (const transport of ALL) {
  test(`${transport}: a publication missing on the wire is not delivered over, but gone back for`, async () => {
    const world = new World();
    const client = await world.connected({ transports: [transport] });
    const channel = client.channel("a");
    const got = record(channel);
    await world.outcome(channel.subscribe());
    world.server.publish("a", 1);
    await world.advance(50);
    world.server.mangle = () => [];
    world.server.publish("a", 2);
    world.server.mangle = (publication) => [publication];
    if (transport !== "longpoll") assert.equal(client.stats.gaps, 0);
    world.server.publish("a", 3);
    await world.advance(3_000);
    assert.deepEqual(offsets(got), [1, 2, 3]);
    if (transport !== "longpoll") assert.equal(client.stats.gaps, 1);
  });
}

test("another epoch without a reset, and another entry at the same offset, are gaps too", async () => {
  for (const forge of [(last) => ({ ...last, epoch: "zzz", offset: 2 }), (last) => ({ ...last, tag: "ffffffff" })]) {
    const world = new World();
    const client = await world.connected({ transports: ["websocket"] });
    const channel = client.channel("a");
    const got = record(channel);
    await world.outcome(channel.subscribe());
    const last = world.server.publish("a", 1);
    await world.advance(50);
    const [session] = world.server.sessions.values();
    session.current.write({ publication: forge(last) });
    await world.advance(2_000);
    assert.equal(client.stats.gaps, 1);
    assert.deepEqual(offsets(got), [1]);
    assert.equal(client.state, "connected");
  }
});

test("an answer that begins further on than asked, without calling it a reset, is a gap", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  for (let i = 1; i <= 3; i++) world.server.publish("a", i);
  const { command } = world.server;
  world.server.command = function (leg, { id }, token, reply) {
    world.server.command = command;
    reply({ id, position: world.server.log("a").head, recovered: true });
  };
  const channel = client.channel("a", { position: { offset: 0 } });
  const got = record(channel);
  await world.outcome(channel.subscribe(), 3_000);
  assert.equal(client.stats.gaps, 1);
  assert.deepEqual(offsets(got), [1, 2, 3]);
});

test("a reset pushed in mid-stream moves the position", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  const [session] = world.server.sessions.values();
  const position = { offset: 41, epoch: "e", tag: "00000000" };
  session.current.write({ reset: { channel: "a", position } });
  session.current.write({ publication: { channel: "a", offset: 42, epoch: "e", tag: "11111111", data: 1 } });
  await world.advance(50);
  assert.deepEqual(got.resets, [position]);
  assert.deepEqual(offsets(got), [42]);
});

test("publications that overtake the answer to a subscribe wait for it, a bounded number of them", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["sse"] });
  for (let i = 0; i < 5; i++) world.server.publish("a", i);
  const channel = client.channel("a", { position: { offset: 0 } });
  const got = record(channel);
  // The POST's answer is late, the stream is not.
  let isLate = true;
  const { command } = world.server;
  world.server.command = function (leg, sent, token, reply) {
    command.call(this, leg, sent, token, (answer) =>
      isLate ? world.clock.setTimeout(() => reply(answer), 500) : reply(answer),
    );
  };
  const promise = world.outcome(channel.subscribe(), 0);
  await world.advance(100);
  for (let i = 0; i < 1100; i++) world.server.publish("a", i);
  await world.advance(100);
  assert.deepEqual(offsets(got), []);
  isLate = false;
  await world.advance(5_000);
  assert.deepEqual(await promise, { value: undefined });
  assert.deepEqual(
    offsets(got),
    Array.from({ length: 1105 }, (_, i) => i + 1),
  );
});

test("a reset that overtakes the answer to a subscribe keeps its place", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["sse"] });
  for (let i = 0; i < 3; i++) world.server.publish("a", i);
  const channel = client.channel("a", { position: { offset: 0 } });
  const got = record(channel);
  const { command } = world.server;
  world.server.command = function (leg, sent, token, reply) {
    command.call(this, leg, sent, token, (answer) => world.clock.setTimeout(() => reply(answer), 500));
  };
  const promise = world.outcome(channel.subscribe(), 0);
  await world.advance(100);
  const [session] = world.server.sessions.values();
  const position = { offset: 41, epoch: "other", tag: "00000000" };
  session.current.write({ reset: { channel: "a", position } });
  await world.advance(100);
  assert.deepEqual([offsets(got), got.resets], [[], []]);
  await world.advance(1_000); // and nothing else follows
  assert.deepEqual(await promise, { value: undefined });
  assert.deepEqual([offsets(got), got.resets], [[1, 2, 3], [position]]);
  assert.deepEqual(channel.position, position);
  assert.equal(client.stats.gaps, 0);
});

each("history and presence", async (world, client) => {
  for (let i = 1; i <= 4; i++) world.server.publish("a", i);
  const channel = client.channel("a");
  const { value } = await world.outcome(channel.history({ limit: 2, reverse: true }));
  assert.deepEqual(offsets(value.publications), [4, 3]);
  assert.equal(value.head.offset, 4);
  const after = value.publications[0];
  assert.deepEqual((await world.outcome(channel.history({ after }))).value.publications, []);
  assert.deepEqual((await world.outcome(channel.presence())).value, { entries: [{ subject: "alice" }] });
});

each("joins and leaves are passed on", async (world, client) => {
  const channel = client.channel("a");
  const heard = [];
  for (const event of ["join", "leave"]) channel.on(event, ({ subject }) => heard.push([event, subject]));
  await world.outcome(channel.subscribe());
  const [session] = world.server.sessions.values();
  world.server.tell(session, { join: { channel: "a", subject: "bob" } });
  world.server.tell(session, { leave: { channel: "a", subject: "bob" } });
  await world.advance(100);
  assert.deepEqual(heard, [
    ["join", "bob"],
    ["leave", "bob"],
  ]);
});

each("a publish whose answer is lost is sent again, and is in the log once", async (world, client) => {
  const channel = client.channel("a");
  const sent = world.outcome(channel.publish("once"), 0);
  const { length } = world.server.received;
  while (world.server.received.length === length) await world.advance(1);
  world.network.cut();
  await world.advance(3_000);
  const { value } = await sent;
  assert.equal(value.repeated, true);
  assert.equal(world.server.log("a").entries.length, 1);
});

test("past the key's window a publish is not repeated but reported as unknown", async () => {
  const world = new World({ keyWindowS: 5 });
  const client = await world.connected({ transports: ["websocket"] });
  const sent = world.outcome(client.channel("a").publish("once"), 0);
  await world.advance(7);
  world.network.isDown = true;
  world.network.cut();
  const unsent = world.outcome(client.channel("a").publish("later"), 0);
  await world.advance(6_000);
  world.network.isDown = false;
  await world.advance(30_000);
  assert.equal((await sent).error.number, 3414);
  assert.equal((await unsent).value.position.offset, 2);
  assert.deepEqual(
    world.server.log("a").entries.map(({ data }) => data),
    ["once", "later"],
  );
});

test("a command never answered ends: unknown where it may have happened, a timeout otherwise", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"], timeoutMs: 1_000 });
  world.network.faults.websocket = "mute";
  const sent = world.outcome(client.channel("a").publish(1), 0);
  const read = world.outcome(client.channel("a").history(), 0);
  await world.advance(7);
  world.network.isDown = true;
  world.network.cut();
  const unsent = world.outcome(client.channel("a").publish(2), 0);
  await world.advance(2_000);
  assert.equal((await sent).error.name, "outcome_unknown");
  assert.equal((await read).error.name, "timeout");
  assert.equal((await unsent).error.name, "timeout");
});

test("disconnect rejects what is unanswered, each with what is known of it", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const sent = world.outcome(client.channel("a").publish(1), 0);
  const read = world.outcome(client.channel("a").history(), 0);
  const wish = world.outcome(client.channel("b").subscribe(), 0);
  client.disconnect();
  await world.advance(10);
  assert.equal((await sent).error.name, "outcome_unknown");
  assert.equal((await read).error.name, "disconnected");
  assert.equal((await wish).error.name, "disconnected");
  assert.equal((await world.outcome(client.channel("a").publish(1))).error.name, "disconnected");
  client.connect();
  await world.advance(100);
  assert.equal(client.channel("b").state, "subscribed", "the wish outlives the connection");
});

test("commands wait for a connection in a queue with an end", async () => {
  const world = new World();
  const client = world.client({ queueMax: 3 });
  client.connect();
  world.network.isDown = true;
  const outcomes = [1, 2, 3, 4].map((data) => world.outcome(client.publish("a", data), 0));
  await world.advance(100);
  assert.equal((await outcomes[3]).error.number, 3429);
  world.network.isDown = false;
  await world.advance(10_000);
  assert.deepEqual(
    world.server.log("a").entries.map(({ data }) => data),
    [1, 2, 3],
  );
});

each(
  "what is too large for the server is refused here and does not end the leg",
  async (world, client) => {
    const { error } = await world.outcome(client.publish("a", "x".repeat(2_000)));
    assert.equal(error.number, 3413);
    assert.ok((await world.outcome(client.publish("a", "x".repeat(800)))).value);
    assert.equal(client.stats.legs, 1);
  },
  { commandMaxBytes: 1_000 },
);

test("what cannot be JSON is rejected at once, and what is sent is a copy", async () => {
  const world = new World();
  const client = await world.connected();
  const loop = {};
  loop.loop = loop;
  assert.ok((await world.outcome(client.publish("a", loop))).error instanceof TypeError);
  const data = { n: 1 };
  world.network.isDown = true;
  world.network.cut();
  const sent = world.outcome(client.publish("a", data), 0);
  data.n = 2;
  world.network.isDown = false;
  await world.advance(3_000);
  assert.ok((await sent).value);
  assert.deepEqual(world.server.log("a").entries[0].data, { n: 1 });
});

test("numbered commands count from one in each session, without a hole, over all its stream legs", async () => {
  const world = new World();
  const client = await world.connected();
  const wish = (name) => world.outcome(client.channel(name).subscribe(), 200);
  const numbers = () => world.server.received.filter(({ n }) => n).map(({ n }) => n);
  await wish("a");
  await world.outcome(client.moveTo("sse"));
  await wish("b");
  await world.outcome(client.moveTo("longpoll"));
  await wish("c");
  await world.outcome(client.moveTo("websocket"));
  await wish("d");
  assert.deepEqual(numbers(), [1, 2, 3]);
  world.server.forgetSessions();
  await world.advance(3_000);
  world.server.received.length = 0;
  await wish("e");
  assert.deepEqual(numbers(), [1]);
});

test("a numbered command left open when the session becomes polled costs a new session, no wait", async () => {
  const world = new World();
  const client = await world.connected();
  const [session] = world.server.sessions.values();
  const moved = world.outcome(client.moveTo("longpoll"), 0);
  await world.advance(14);
  // Goes out on the WebSocket in the moment it is replaced; nobody reads it there.
  const wish = world.outcome(client.channel("a").subscribe(), 0);
  session.current.end = () => {};
  await world.advance(1_000);
  assert.ok("value" in (await moved));
  assert.ok("value" in (await wish));
  await world.outcome(client.moveTo("websocket"));
  const later = await world.outcome(client.channel("b").subscribe(), 100);
  assert.ok("value" in later, "no waiting behind a hole");
  const got = record(client.channel("a"));
  world.server.publish("a", 1);
  await world.advance(50);
  assert.deepEqual(offsets(got), [1]);
});

test("out of order and session unknown: attach anew, and the wish comes true", async () => {
  for (const number of [3409, 3404, 3414]) {
    const world = new World();
    const client = await world.connected({ transports: ["sse"] });
    const { command } = world.server;
    world.server.command = function (leg, sent, token, reply) {
      world.server.command = command;
      reply({ id: sent.id, error: { number, name: "no" } });
    };
    const { session } = client;
    const outcome = await world.outcome(client.channel("a").subscribe(), 5_000);
    assert.deepEqual(outcome, { value: undefined });
    assert.notEqual(client.session, session);
  }
});

test("a listener that throws takes nothing from the others", async () => {
  const world = new World();
  const client = await world.connected({ transports: ["websocket"] });
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  const uncaught = [];
  const previous = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => uncaught.push(error.message));
  try {
    channel.on("publication", () => {
      throw new Error("the application's own");
    });
    for (let i = 0; i < 2; i++) world.server.publish("a", i);
    await world.advance(50);
  } finally {
    process.removeAllListeners("uncaughtException");
    for (const listener of previous) process.on("uncaughtException", listener);
  }
  assert.deepEqual(offsets(got), [1, 2]);
  assert.equal(uncaught.length, 2);
  assert.equal(events(client, "leg").filter(({ event }) => event === "lost").length, 0);
});

for (const when of ["before it connected", "while connected"]) {
  test(`what MessagePack cannot write, published ${when}, harms nobody`, async () => {
    const world = new World();
    const bytesToJSON = (_, value) =>
      value instanceof Uint8Array ? { base64: Buffer.from(value).toString("base64") } : value;
    const lines = (text) => text.split("\n").map((line) => JSON.parse(line));
    // The frames of the fake network are JSON; what is tried here is what comes before a library writes one.
    const codec = {
      ...messagePack({ encode: (value) => JSON.stringify(value, bytesToJSON), decode: lines }),
      decode: lines,
    };
    const client = world.client({ codec, transports: ["websocket"] });
    const got = record(client.channel("a"));
    client.channel("a").subscribe();
    client.connect();
    if (when === "while connected") await world.advance(2_000);
    client.publish("a", { base64: "***" }, { binary: true }).catch(() => {}); // the server's to refuse
    const good = client.publish("a", "fine");
    assert.ok((await world.outcome(good)).value);
    assert.ok(got.some(({ data }) => data === "fine"));
    world.network.cut();
    await world.advance(10_000);
    assert.equal(client.state, "connected");
    assert.equal(world.network.opened.length, 2);
  });
}

each("asked by the server to subscribe, the application decides; nothing is lost meanwhile", async (world, client) => {
  world.server.publish("a", 1);
  const { epoch, tag } = world.server.log("a").entries[0];
  const session = world.server.sessions.get(client.session);
  const invitation = { channel: "a", position: { offset: 1, epoch, tag } };
  world.server.tell(session, { subscribe: invitation });
  await world.advance(200);
  assert.equal(client.channel("a").state, "unsubscribed", "nobody listens, and nothing happens");
  const invited = [];
  let got;
  client.on("subscribe", ({ channel: name, position }) => {
    invited.push(name);
    const channel = client.channel(name, { position });
    got = record(channel);
    channel.subscribe();
  });
  world.server.tell(session, { subscribe: invitation });
  world.server.publish("a", 2);
  await world.advance(2_000);
  assert.deepEqual(invited, ["a"]);
  world.server.publish("a", 3);
  await world.advance(200);
  assert.deepEqual(offsets(got), [2, 3]);
  world.network.cut();
  world.server.publish("a", 4);
  await world.advance(10_000);
  assert.deepEqual(offsets(got), [2, 3, 4], "it is the client's own from then on");
});

each("unsubscribed by the server, it does not ask again by itself", async (world, client) => {
  const channel = client.channel("a");
  const got = record(channel);
  await world.outcome(channel.subscribe());
  world.server.endSubscription(world.server.sessions.get(client.session), "a", 3417);
  await world.advance(2_000);
  assert.equal(channel.state, "unsubscribed");
  world.server.publish("a", 1);
  await world.advance(2_000);
  assert.deepEqual(offsets(got), []);
});
