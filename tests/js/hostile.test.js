/**
 * Networks that fight back: each spoils a transport in its own way, and the client finds out by what it measures. In
 * all of them every publication comes once and in order, and what works is kept.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, events, record } from "./support/world.js";

class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
}

const begin = async (world, options) => {
  const client = world.client(options);
  const channel = client.channel("chat:lobby", { position: { offset: 0 } });
  const got = record(channel);
  channel.subscribe().catch(() => {});
  client.connect();
  return { client, channel, got };
};

/** For so long, with a publication every so often; and then until all must have come. */
const live = async (world, ms, everyMs = 1_000) => {
  for (let passed = 0; passed < ms; passed += everyMs) {
    world.server.publish("chat:lobby", passed);
    await world.advance(everyMs);
  }
};

const whole = (world, got) => {
  const all = world.server.log("chat:lobby").entries.map(({ offset }) => offset);
  assert.deepEqual(
    got.map(({ offset }) => offset),
    all,
  );
  assert.deepEqual(got.resets, []);
};

const changes = (client, transports = events(client, "transport").map(({ transport }) => transport)) =>
  transports.filter((transport, index) => index && transport !== transports[index - 1]).length;

for (const fault of ["refused", "hang", "mute", "killed", "behind", 403, 426])
  for (const also of [undefined, "refused", "mute", "held", "behind", 502]) {
    test(`WebSocket ${fault}, event stream ${also ?? "works"}: the first publication within 3 s, then within 1 s`, async () => {
      const world = new World();
      const storage = new Storage();
      Object.assign(world.network.faults, { websocket: typeof fault === "number" ? "refused" : fault, sse: also });
      world.server.publish("chat:lobby", "before");
      for (const limitMs of [3_000, 1_000]) {
        const { client, got } = await begin(world, { storage });
        await world.advance(limitMs);
        assert.ok(got.length > 0, `within ${limitMs} ms`);
        await live(world, 20_000);
        whole(world, got);
        assert.equal(client.transport, also ? "longpoll" : "sse");
        client.disconnect();
        await world.advance(1_000);
      }
    });
  }

test("what dies soon after it opened is not flapped to: tried again on probation, ever more rarely", async () => {
  const world = new World();
  world.network.faults.websocket = "killed";
  const { client, got } = await begin(world);
  await live(world, 5_000);
  assert.equal(client.transport, "sse");
  const settled = changes(client);
  await live(world, 600_000, 5_000);
  assert.equal(changes(client), settled, "no change of transport in ten minutes");
  assert.ok(world.network.opened.filter((name) => name === "websocket").length < 8);
  assert.equal(client.stats.reconnects, 1);
  whole(world, got);
  world.network.faults = {};
  await live(world, 1_300_000, 10_000);
  assert.equal(client.transport, "websocket", "the network was mended");
  whole(world, got);
});

for (const transport of ["websocket", "sse"])
  for (const fault of ["behind", "lumpy"]) {
    test(`${transport} that turns ${fault} is left, for one that is prompt`, async () => {
      const world = new World();
      const { client, got } = await begin(world, { transports: [transport, "longpoll"] });
      await live(world, 5_000);
      assert.equal(client.transport, transport);
      world.network.faults[transport] = fault;
      world.network.cut();
      await live(world, 200_000, 9_000);
      assert.equal(client.transport, "longpoll");
      assert.ok(changes(client) <= 3, `${changes(client)}`);
      whole(world, got);
    });
  }

test("an idle cut: more frequent heartbeats are asked for, and the transport stays", async () => {
  const world = new World();
  const storage = new Storage();
  world.network.idleMs = 12_000;
  const { client, got } = await begin(world, { storage });
  await world.advance(30_000);
  const { reconnects } = client.stats;
  assert.ok(reconnects >= 1);
  await world.advance(600_000);
  assert.equal(client.stats.reconnects, reconnects);
  assert.equal(client.transport, "websocket");
  await live(world, 3_000);
  whole(world, got);
  client.disconnect();
  const again = await begin(world, { storage });
  await world.advance(600_000);
  assert.equal(again.client.stats.reconnects, 0, "the next page knows");
});

test("an idle cut below what heartbeats can bridge: the next transport, and no flapping", async () => {
  const world = new World();
  world.network.idleMs = 1_000;
  const { client, got } = await begin(world);
  await live(world, 3_000, 500);
  await world.advance(10_000);
  await live(world, 600_000, 5_000);
  assert.equal(client.transport, "longpoll");
  assert.ok(changes(client) <= 4, `${changes(client)}`);
  whole(world, got);
});

for (const [transport, limitMs] of [
  ["websocket", 12_000],
  ["sse", 20_000],
  ["longpoll", 35_000],
]) {
  test(`${transport}: the network changes and nobody is told: a command that stays unanswered tells`, async () => {
    const world = new World();
    const { client, channel, got } = await begin(world, { transports: [transport] });
    await live(world, 10_000);
    world.network.freeze();
    const published = [];
    for (let second = 0; second < limitMs / 1_000; second++) {
      published.push(world.outcome(channel.publish(second), 0));
      await world.advance(1_000);
    }
    assert.equal(client.state, "connected");
    await world.advance(15_000);
    for (const outcome of published) assert.ok((await outcome).value);
    whole(world, got);
  });

  test(`${transport}: the network changes and the page is told: healed within 5 s`, async () => {
    const world = new World();
    const { client, got } = await begin(world, { transports: [transport] });
    await live(world, 10_000);
    world.network.freeze();
    world.network.wake();
    world.server.publish("chat:lobby", "meanwhile");
    await world.advance(5_000);
    assert.equal(client.state, "connected");
    whole(world, got);
  });

  test(`${transport}: waking costs a question, and nothing more where all is well`, async () => {
    const world = new World();
    const { client } = await begin(world, { transports: [transport] });
    await live(world, 3_000);
    for (let i = 0; i < 5; i++) {
      world.network.wake();
      await world.advance(3_000);
    }
    assert.equal(client.stats.reconnects, 0);
    assert.equal(world.network.opened.length, 1);
  });
}

test("a silence without a word is the transport's fault only where plain requests get through", async () => {
  for (const [ping, expected] of [
    [undefined, "sse"],
    ["refused", "websocket"],
  ]) {
    const world = new World();
    const { client } = await begin(world, { transports: ["websocket", "sse"] });
    await world.advance(1_000);
    world.network.faults.ping = ping;
    for (let deaths = 0; deaths < 4; deaths++) {
      world.network.freeze();
      await world.advance(40_000);
    }
    assert.equal(client.transport, expected);
  }
});

test("a server that dies and comes back demotes nothing, however often it does", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const world = new World({ seed });
    const { client, got } = await begin(world);
    await live(world, 3_000);
    for (let restarts = 0; restarts < 5; restarts++) {
      world.network.isDown = true;
      world.network.cut();
      await world.advance(1_000 + 4_000 * world.random());
      world.network.isDown = false;
      await live(world, 4_000);
    }
    // It may come back in the very moment between two tries: then the better transport follows within half a minute.
    await world.advance(60_000);
    assert.equal(client.transport, "websocket", `seed ${seed}`);
    whole(world, got);
  }
});

test("all transports fail: the error says whether the server itself can be reached", async () => {
  for (const [ping, words] of [
    [undefined, /the server answers$/],
    ["refused", /no server$/],
  ]) {
    const world = new World();
    Object.assign(world.network.faults, { websocket: "refused", sse: 403, longpoll: 403, ping });
    const { client } = await begin(world);
    await world.advance(1_000);
    assert.match(events(client, "error")[0].message, words);
  }
});

test("an attach tells why better transports are not used", async () => {
  const world = new World();
  const seen = [];
  const { attach } = world.server;
  world.server.attach = function (leg, command, ...rest) {
    seen.push([leg.transport, command.tried]);
    return attach.call(this, leg, command, ...rest);
  };
  Object.assign(world.network.faults, { websocket: "refused", sse: "held" });
  await begin(world);
  await world.advance(5_000);
  const websocket = { transport: "websocket", reason: "refused" };
  assert.deepEqual(seen, [
    ["sse", [websocket]],
    ["longpoll", [websocket, { transport: "sse", reason: "slow" }]],
  ]);
});

test("the page is put away: nothing stays open; it comes back at once, with all it missed", async () => {
  for (const transport of ["websocket", "sse", "longpoll"]) {
    const world = new World();
    const { client, got } = await begin(world, { transports: [transport] });
    await live(world, 3_000);
    world.network.sleep();
    assert.equal(client.state, "connecting");
    await live(world, 50_000);
    assert.equal(world.network.open, 0, transport);
    world.network.wake();
    await world.advance(100);
    assert.equal(client.state, "connected");
    whole(world, got);
  }
});

test("asleep before it was connected, and in the middle of a race", async () => {
  for (const ms of [0, 3, 8, 12, 503]) {
    const world = new World();
    world.network.faults.websocket = ms > 500 ? "hang" : undefined;
    const { client } = await begin(world);
    await world.advance(ms);
    world.network.sleep();
    await world.advance(60_000);
    assert.equal(world.network.open, 0, `${ms}`);
    world.network.wake();
    await world.advance(2_000);
    assert.equal(client.state, "connected");
  }
});

test("hidden tabs come back last; shown, at once", async () => {
  const world = new World();
  const { client } = await begin(world);
  await world.advance(1_000);
  world.network.isHidden = true;
  world.network.cut();
  await world.advance(5_000);
  assert.equal(client.state, "connecting");
  world.network.isHidden = false;
  world.network.wake();
  await world.advance(100);
  assert.equal(client.state, "connected");
  await world.advance(10_000);
  world.network.isHidden = true;
  world.network.cut();
  await world.advance(10_600);
  assert.equal(client.state, "connected", "hidden is not forgotten");
});

test("what was spoilt does not win against what is a little late", async () => {
  const world = new World();
  world.network.idleMs = 1_000;
  const { client, got } = await begin(world);
  await world.advance(10_000);
  assert.equal(client.transport, "longpoll");
  const { latencyMs } = world.network;
  world.network.latencyMs = () => 900;
  client.cut();
  await world.advance(500);
  world.network.opened = [];
  await world.advance(4_000);
  assert.deepEqual(world.network.opened, []);
  assert.equal(client.transport, "longpoll");
  world.network.latencyMs = latencyMs;
  await live(world, 3_000);
  whole(world, got);
});

test("a gateway that holds what it is asked while the server restarts changes no transport", async () => {
  const world = new World();
  world.network.faults.websocket = "refused";
  const { client, got } = await begin(world);
  await live(world, 10_000);
  assert.equal(client.transport, "sse");
  world.network.latencyMs = () => 1_000;
  world.network.cut();
  await world.advance(3_000);
  world.network.latencyMs = () => 5;
  await live(world, 5_000);
  assert.equal(client.transport, "sse");
  assert.equal(changes(client), 0);
  whole(world, got);
});

test("a gateway that answers 503 while kept connections still reach the server demotes nothing", async () => {
  const world = new World();
  world.network.faults.websocket = "refused";
  const { client, channel, got } = await begin(world);
  await live(world, 10_000);
  world.network.faults.command = world.network.faults.sse = world.network.faults.longpoll = 503;
  await world.outcome(channel.publish("on its way"), 100);
  await world.advance(3_000);
  world.network.faults = { websocket: "refused" };
  await live(world, 10_000);
  assert.equal(client.transport, "sse");
  assert.equal(changes(client), 0);
  whole(world, got);
});

/** In a minute of silence: polls that wait as long as they should need two or three. */
const requestsInAMinute = async (world) => {
  world.network.urls = [];
  await world.advance(60_000);
  return world.network.urls.length;
};

test("a gateway's 502 in front of a server that restarts does not shorten polls, here or on the next page", async () => {
  const world = new World();
  const storage = new Storage();
  const { client } = await begin(world, { transports: ["longpoll"], storage });
  await live(world, 10_000);
  world.network.faults.longpoll = world.network.faults.ping = 502;
  world.network.cut();
  await world.advance(1_000);
  world.network.faults = {};
  await world.advance(20_000);
  assert.ok((await requestsInAMinute(world)) <= 3);
  client.disconnect();
  await begin(world, { transports: ["longpoll"], storage });
  await world.advance(5_000);
  assert.ok((await requestsInAMinute(world)) <= 3);
});

test("one 502 in the middle of a poll does not shorten those after it", async () => {
  const world = new World();
  let fail;
  const failing = (url, options) =>
    new Promise((resolve, reject) => {
      fail = () => resolve(new Response("bad gateway", { status: 502 }));
      world.network.fetch(url, options).then(resolve, reject);
    });
  const { got } = await begin(world, { transports: ["longpoll"], environment: { fetch: failing } });
  await live(world, 5_000);
  await world.advance(3_000);
  fail();
  await world.advance(1_000);
  assert.ok((await requestsInAMinute(world)) <= 3);
  await live(world, 3_000);
  whole(world, got);
});

/** WebSockets of which each is spoilt by `spoil` when it is made. */
const spoilWebSockets = ({ network }, spoil) => {
  network.WebSocket = class extends network.WebSocket {
    constructor(...rest) {
      super(...rest);
      spoil(this);
    }
  };
};

test("an upgrade whose answers are held delays little, and the stream that worked is kept", async () => {
  const world = new World();
  spoilWebSockets(world, ({ leg }) => {
    const { write } = leg;
    let count = 0;
    leg.write = (push) => count++ || write(push); // only `attached` comes down
  });
  const { client, channel, got } = await begin(world);
  const delaysMs = [];
  channel.on("publication", ({ data }) => delaysMs.push(world.clock.now() - data));
  for (let second = 0; second < 900; second++) {
    world.server.publish("chat:lobby", world.clock.now());
    await world.advance(1_000);
  }
  const transports = new Set(events(client, "transport").map(({ transport }) => transport));
  assert.deepEqual([...transports], ["sse"]);
  assert.ok(Math.max(...delaysMs) < 5_000, `${Math.max(...delaysMs)}`);
  assert.ok(delaysMs.filter((ms) => ms > 1_500).length < 10);
  whole(world, got);
});

test("a WebSocket that opens late is taken where commands by POST are swallowed", async () => {
  const world = new World();
  const storage = new Storage();
  const transports = ["websocket", "sse"];
  const before = await begin(world, { storage, transports });
  await world.advance(2_000);
  before.client.disconnect();
  await world.advance(1_000);
  spoilWebSockets(world, ({ link }) => (link.lastMs = world.clock.now() + 508));
  world.network.faults.command = "hang";
  world.server.publish("chat:lobby", 1);
  const { client, got } = await begin(world, { storage, transports });
  await world.advance(2_000);
  assert.equal(client.transport, "websocket");
  whole(world, got);
});

test("a page that was woken once blames a transport that goes deaf later", async () => {
  const world = new World();
  spoilWebSockets(world, ({ link }) => world.clock.setTimeout(() => (link.isFrozen = true), 15_000));
  const { client, got } = await begin(world, { transports: ["websocket", "sse"] });
  client.on("transport", () => world.clock.setTimeout(() => world.network.wake(), 5_000));
  await live(world, 600_000);
  assert.equal(client.transport, "sse");
  assert.ok(client.stats.reconnects <= 6, `${client.stats.reconnects}`);
  whole(world, got);
});

test("a command that is answered slowly does not end the stream beside it", async () => {
  const world = new World();
  const { client, channel } = await begin(world, { transports: ["sse"] });
  await world.advance(10_000);
  const { command } = world.server;
  world.server.command = function (leg, one, ...rest) {
    if (one.method !== "publish") return command.call(this, leg, one, ...rest);
    world.clock.setTimeout(() => command.call(this, leg, one, ...rest), 3_000);
  };
  const { value } = await world.outcome(channel.publish("x"), 4_000);
  assert.ok(value && !value.repeated);
  assert.equal(client.stats.reconnects, 0);
  assert.equal(world.network.opened.length, 1);
});

test("one POST that a gateway failed demotes nothing", async () => {
  const world = new World();
  world.network.faults.websocket = "refused";
  const { client, channel, got } = await begin(world);
  await live(world, 13_000);
  assert.equal(client.transport, "sse");
  world.network.faults.command = 502;
  const published = world.outcome(channel.publish("x"), 0);
  await world.advance(20);
  world.network.faults.command = undefined;
  await world.advance(10_000);
  assert.ok((await published).value);
  assert.equal(client.transport, "sse");
  assert.equal(changes(client), 0);
  whole(world, got);
});

test("how long a gateway's Retry-After bids us wait is no place that our server keeps", async () => {
  for (const seconds of ["3600", "2592000"]) {
    const world = new World();
    let isBad = true;
    let count = 0;
    const environment = {
      setTimeout: (callback, ms) => world.clock.setTimeout(callback, ms > 2 ** 31 - 1 ? 1 : ms), // as platforms do
      fetch: async (url, options) => {
        count++;
        if (isBad && !url.endsWith("/ping"))
          return new Response("maintenance", { status: 503, headers: { "Retry-After": seconds } });
        return world.network.fetch(url, options);
      },
    };
    Object.assign(world.network.faults, { websocket: "refused", ping: 503 });
    const { client } = await begin(world, { environment });
    await world.advance(2_000);
    assert.ok(count < 20, `${count}`);
    isBad = false;
    world.network.faults = {};
    world.network.wake();
    await world.advance(5_000);
    assert.equal(client.state, "connected", seconds);
  }
});

test("a server that rotates each stream as soon as it is there is not asked in a hot loop", async () => {
  const world = new World();
  const { confirm } = world.server;
  world.server.confirm = function (leg, ...rest) {
    confirm.call(this, leg, ...rest);
    leg.write({ disconnect: { code: 4412, reason: "rotated" } });
  };
  await begin(world, { transports: ["sse"] });
  await world.advance(10_000);
  assert.ok(world.network.opened.length < 20, `${world.network.opened.length}`);
});

test("a doubt that was cleared meanwhile does not end what is asked anew", async () => {
  for (let askedMs = 5_018; askedMs <= 5_036; askedMs += 3) {
    const world = new World();
    let isSlow = false;
    const fetch = async (url, options) => {
      if (isSlow && url.endsWith("/ping")) await new Promise((resolve) => world.clock.setTimeout(resolve, 3_000));
      return world.network.fetch(url, options);
    };
    const { client, channel, got } = await begin(world, { transports: ["websocket", "sse"], environment: { fetch } });
    await world.advance(10_000);
    isSlow = true;
    world.network.latencyMs = () => 1_200;
    const published = world.outcome(channel.publish("x"), 0);
    await world.advance(3_500);
    isSlow = false;
    world.network.latencyMs = () => 5;
    await world.advance(askedMs - 3_500);
    world.network.wake();
    await world.advance(10_000);
    assert.equal(client.stats.reconnects, 0, `asked anew after ${askedMs} ms`);
    assert.ok((await published).value);
    whole(world, got);
  }
});
