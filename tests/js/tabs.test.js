/** Several tabs over one connection: who leads, what is shared, and what happens when the leader goes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { CHANNELS_MAX, COMMANDS_MAX, LEGS_MAX } from "../../static/hybrid/tabs/hub.js";
import { open as openLeg } from "../../static/hybrid/tabs/index.js";
import { groupName, labelOf } from "../../static/hybrid/tabs/name.js";
import { Browser, jwt } from "./support/tabs.js";
import { World, events, record } from "./support/world.js";

/** Tabs with a client each, opened one after another; each is subscribed to "chat" from where it is. */
const open = async (count, options = {}) => {
  const world = new World();
  const browser = new Browser(world);
  const tabs = [];
  const add = async (more = {}) => {
    const tab = browser.tab();
    const client = tab.client({ ...options, ...more });
    const channel = client.channel("chat");
    tabs.push(Object.assign(tab, { main: client, channel, got: record(channel) }));
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
const states = (tabs) => tabs.map(({ main }) => main.state);
const from = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
/** Sessions that have a leg at the server. */
const sessions = ({ server }) => [...server.sessions.values()].filter(({ current }) => current).length;

/** The transports by which it tried to have a connection of its own. */
const ownLegs = (client) =>
  events(client, "leg")
    .map(({ transport }) => transport)
    .filter((transport) => transport !== "shared");

/** A publication every 20 ms, `count` in all, while `during` happens. */
const publishing = async (world, count, during) => {
  const first = world.server.log("chat").offset + 1;
  for (let i = 0; i < count; i++) world.clock.setTimeout(() => world.server.publish("chat", i), 20 * i);
  await during();
  await world.advance(20 * count);
  return [first, first + count - 1];
};

const assertWhole = (tabs, last) => {
  for (const tab of tabs) {
    assert.deepEqual(offsets(tab), from(offsets(tab)[0], last));
    assert.equal(tab.main.stats.gaps, 0);
    assert.deepEqual(tab.got.resets, []);
  }
};

// -- who shares with whom

const ALICE = { iss: "https://id.example", sub: "alice", client_id: "web", scope: "a b" };

test("tokens of the same party with the same rights have one label, whenever they were made", () => {
  const label = labelOf(jwt({ ...ALICE, exp: 1, iat: 0, jti: "x" }));
  assert.equal(labelOf(jwt({ ...ALICE, exp: 2, iat: 1, jti: "y" })), label);
  for (const other of [{ sub: "bob" }, { client_id: "app" }, { iss: "https://other" }, { scope: "a" }, { sid: "2" }])
    assert.notEqual(labelOf(jwt({ ...ALICE, ...other })), label);
  assert.equal(labelOf("opaque"), "opaque");
  assert.equal(labelOf("a.b.c"), "a.b.c");
  assert.equal(labelOf(""), "");
});

test("the group's name tells neither the token nor whose it is", async () => {
  const name = await groupName({ url: "https://example.org/v1", token: jwt(ALICE) });
  assert.match(name, /^hybrid\.tabs\.v1:[0-9a-f]{64}$/);
  assert.notEqual(name, await groupName({ url: "https://example.org/v2", token: jwt(ALICE) }));
  assert.equal(await groupName({ url: "", token: "", digest: async () => undefined }), undefined);
});

const token = (world, claims = {}) => {
  const made = jwt({ ...ALICE, jti: String(world.server.tokens.size), ...claims });
  world.server.tokens.set(made, world.clock.now() + 3_600_000);
  return made;
};

test("the same party shares, another does not, and no token is ever on the channel", async () => {
  const { world, browser, tabs, add } = await open(0);
  const mine = [token(world), token(world), token(world, { sub: "bob" })];
  for (const one of mine) await add({ getToken: () => one });
  await add();
  await world.advance(5_000);
  assert.deepEqual(transports(tabs), ["shared", "shared", "websocket", "websocket"]);
  assert.equal(sessions(world), 3);
  const said = JSON.stringify(browser.posted.map(({ data }) => data));
  assert.ok(browser.posted.length);
  for (const one of mine) assert.ok(!said.includes(one.split(".")[1]));
});

test("whose token becomes another party's leaves; what it led goes on", async () => {
  const { world, tabs, add } = await open(0);
  let mine = token(world);
  await add({ getToken: () => mine });
  await add({ getToken: () => token(world) });
  await add({ getToken: () => token(world) });
  assert.deepEqual(transports(tabs), ["shared", "shared", "shared"]);
  mine = token(world, { sub: "bob" });
  assert.deepEqual(await world.outcome(tabs[0].main.refresh(), 5_000), { value: undefined });
  assert.deepEqual(transports(tabs), ["websocket", "shared", "shared"]);
  assert.equal(sessions(world), 2);
  const answer = await world.outcome(tabs[0].main.publish("chat", "bob's"));
  assert.equal(answer.value.position.offset, 1);
  assertWhole(tabs, 1);
});

test("a follower's refresh is its own affair", async () => {
  const { world, tabs, add } = await open(0);
  for (let i = 0; i < 2; i++) await add({ getToken: () => token(world) });
  const before = world.server.received.length;
  assert.deepEqual(await world.outcome(tabs[1].main.refresh()), { value: undefined });
  assert.ok(!world.server.received.slice(before).some(({ method }) => method === "refresh"));
  assert.deepEqual(transports(tabs), ["shared", "shared"]);
});

for (const [why, options] of [
  ["told not to", { tabs: false }],
  ["that want other transports", undefined],
]) {
  test(`tabs ${why} have their own connections`, async () => {
    const { world, tabs, add } = await open(1, options);
    await add(options ?? { transports: ["websocket"] });
    await world.advance(60_000);
    assert.deepEqual(transports(tabs), ["websocket", "websocket"]);
    assert.equal(sessions(world), 2);
  });
}

test("where there are no locks, or what is needed cannot be had, tabs have their own connections", async () => {
  const world = new World();
  const browser = new Browser(world);
  const lacking = [{ locks: undefined }, { BroadcastChannel: undefined }, { digest: async () => undefined }];
  for (const environment of lacking) {
    const clients = [browser.tab().client({}, environment), browser.tab().client({}, environment)];
    for (const client of clients) client.connect();
    await world.advance(2_000);
    for (const client of clients) assert.equal(client.transport, "websocket");
    for (const client of clients) client.disconnect();
  }
});

// -- beginning

test("a tab that is alone has its own connection, at once", async () => {
  const world = new World();
  const tab = new Browser(world).tab();
  const client = tab.client();
  client.connect();
  await world.advance(40);
  assert.equal(client.transport, "websocket");
  await world.advance(60_000);
  assert.deepEqual(world.network.opened, ["websocket"]);
  client.disconnect();
  await world.advance(1_000);
  assert.equal(tab.browser.channels.size, 0);
  assert.equal(tab.browser.holder, undefined);
});

for (const [why, query] of [
  ["nobody leads", undefined],
  ["locks may not be looked at", async () => Promise.reject(new Error("SecurityError"))],
]) {
  test(`where ${why}, nobody waits for what makes tabs share`, async () => {
    const world = new World();
    const tab = new Browser(world).tab();
    const { locks } = tab.environment;
    const environment = { digest: () => new Promise(() => {}), locks: { ...locks, ...(query && { query }) } };
    const client = tab.client({}, environment);
    client.connect();
    await world.advance(40);
    assert.equal(client.transport, "websocket");
    client.disconnect();
  });
}

for (const [why, tabsBefore, transport] of [
  ["where somebody leads", 1, "websocket"],
  ["for a stream, of which a browser opens six", 0, "sse"],
]) {
  test(`${why}, a tab waits a little for what makes tabs share`, async () => {
    const { world, tabs } = await open(tabsBefore);
    const opened = world.network.opened.length;
    const browser = tabs[0]?.browser ?? new Browser(world);
    const client = browser.tab().client({ transports: [transport] }, { digest: () => new Promise(() => {}) });
    client.connect();
    await world.advance(150);
    assert.equal(world.network.opened.length, opened);
    await world.advance(150);
    assert.equal(client.transport, transport);
    client.disconnect();
  });
}

test("the second tab shares; the first one's application goes on without a hole", async () => {
  const { world, tabs, add } = await open(1);
  const [, last] = await publishing(world, 200, add);
  await world.advance(3_000);
  assert.deepEqual(transports(tabs), ["shared", "shared"]);
  assert.equal(sessions(world), 1);
  assert.equal(world.network.open, 1);
  assertWhole(tabs, last);
  assert.equal(offsets(tabs[0])[0], 1);
  assert.deepEqual(
    events(tabs[0].main, "state").map(({ state }) => state),
    ["connecting", "connected"],
  );
});

test("many tabs opened at once", async () => {
  const world = new World();
  const browser = new Browser(world);
  const clients = Array.from({ length: 8 }, () => browser.tab().client());
  for (const client of clients) client.connect();
  await world.advance(10_000);
  for (const client of clients) assert.equal(client.transport, "shared");
  assert.equal(sessions(world), 1);
});

test("a publication is on the channel once, however many tabs get it", async () => {
  const { world, browser, tabs } = await open(5);
  browser.posted = [];
  world.server.publish("chat", "x");
  await world.advance(100);
  for (const tab of tabs) assert.equal(tab.got.at(-1).data, "x");
  assert.equal(browser.posted.filter(({ data }) => data.push?.publication).length, 1);
  assert.equal(tabs[1].got[0].transport, "shared");
});

test("a client for which loading took too long comes later, if it is still there", async () => {
  const { world, browser } = await open(0);
  const moves = [];
  const client = { on() {}, state: "connected", transport: "sse", moveTo: async (transport) => moves.push(transport) };
  const { environment } = browser.tab();
  openLeg({ client, options: { environment }, isWanted: true }, {}, { isClosed: true });
  await world.advance(3_000);
  assert.deepEqual(moves, ["shared"]);
  openLeg({ client: { ...client, state: "disconnected" }, options: { environment } }, {}, { isClosed: true });
  await world.advance(3_000);
  assert.deepEqual(moves, ["shared"]);
});

// -- the same as with a connection of its own

test("commands of followers, and their errors", async () => {
  const { world, tabs } = await open(3);
  const { server } = world;
  const [, { main, channel }, other] = tabs;
  server.calls.set("add", ([a, b]) => a + b);
  server.denied.add("secret");
  const published = await world.outcome(channel.publish({ text: "x" }, { key: "k" }));
  assert.equal(published.value.position.offset, 1);
  assert.equal((await world.outcome(channel.publish({ text: "x" }, { key: "k" }))).value.repeated, true);
  assert.equal(server.log("chat").offset, 1);
  assert.deepEqual(offsets(other), [1]);
  assert.equal((await world.outcome(main.call("add", [1, 2]))).value, 3);
  assert.equal((await world.outcome(main.call("none"))).error.number, 3406);
  assert.equal((await world.outcome(channel.history())).value.publications.length, 1);
  assert.deepEqual((await world.outcome(channel.presence())).value.entries, [{ subject: "alice" }]);
  assert.equal((await world.outcome(main.channel("secret").subscribe())).error.number, 3403);
  assert.equal((await world.outcome(main.publish("secret", 1))).error.name, "forbidden");
  assert.equal((await world.outcome(main.publish("chat", "x".repeat(70_000)))).error.number, 3413);
});

const positionAt = (world, name, offset) => {
  const { epoch, tag } = world.server.log(name).entries.find((entry) => entry.offset === offset);
  return { offset, epoch, tag };
};

for (const [what, begin, first] of [
  ["from here on", () => ({}), 411],
  ["a position that the leader has at hand", (world) => ({ position: positionAt(world, "old", 405) }), 406],
  ["a position before that", (world) => ({ position: positionAt(world, "old", 20) }), 21],
  ["the start", () => ({ position: { offset: 0 } }), 1],
  ["some history", () => ({ history: 15 }), 396],
  ["more history than there is", () => ({ history: 900 }), 1],
]) {
  test(`a follower's subscription begins with ${what}, as on its own connection`, async () => {
    const { world, tabs } = await open(2);
    const [one, other] = tabs;
    for (let i = 1; i <= 400; i++) world.server.publish("old", i);
    one.main.channel("old").subscribe();
    await world.advance(100);
    for (let i = 401; i <= 410; i++) world.server.publish("old", i);
    await world.advance(100);
    const channel = other.main.channel("old", begin(world));
    const got = record(channel);
    world.clock.setTimeout(() => world.server.publish("old", "meanwhile"), 6);
    assert.deepEqual(await world.outcome(channel.subscribe(), 100), { value: undefined });
    world.server.publish("old", "last");
    await world.advance(100);
    assert.deepEqual(
      got.map(({ offset }) => offset).filter((offset) => first <= 410 || offset > 411),
      first <= 410 ? from(first, 412) : [412],
    );
    assert.deepEqual(got.resets, []);
    assert.equal(other.main.stats.gaps, 0);
  });
}

test("what cannot be continued is told as a reset", async () => {
  const { world, tabs } = await open(2);
  const { server } = world;
  for (let i = 1; i <= 400; i++) server.publish("old", i);
  const position = positionAt(world, "old", 20);
  tabs[0].main.channel("old").subscribe();
  await world.advance(100);
  server.log("old").trim(10);
  const channel = tabs[1].main.channel("old", { position });
  const got = record(channel);
  await world.outcome(channel.subscribe());
  server.publish("old", "next");
  await world.advance(100);
  assert.deepEqual(
    got.resets.map(({ offset }) => offset),
    [400],
  );
  assert.deepEqual(
    got.map(({ offset }) => offset),
    [401],
  );
});

test("a reset that the leader is told, the end of a subscription, and who comes and goes, are told to all", async () => {
  const { world, tabs } = await open(3);
  const { server } = world;
  server.publish("chat", "before");
  await world.advance(100);
  const joined = [];
  for (const { channel } of tabs) channel.on("join", ({ subject }) => joined.push(subject));
  const session = [...server.sessions.values()].find(({ current }) => current);
  session.current.write({ join: { channel: "chat", subject: "bob" } });
  await world.advance(100);
  assert.deepEqual(joined, ["bob", "bob", "bob"]);
  server.log("chat").lose();
  server.publish("chat", "another life");
  session.current.write({ reset: { channel: "chat", position: server.log("chat").head } });
  session.positions.set("chat", 1);
  await world.advance(100);
  server.publish("chat", "goes on");
  await world.advance(100);
  for (const { got } of tabs) assert.deepEqual([got.resets.length, got.at(-1).data], [1, "goes on"]);
  const ends = [];
  for (const { channel } of tabs) channel.on("state", ({ state, error }) => ends.push([state, error.number]));
  server.denied.add("chat");
  server.endSubscription(session, "chat", 3403);
  await world.advance(100);
  assert.deepEqual(ends, Array(3).fill(["unsubscribed", 3403]));
});

test("a channel that nobody has any more is left at the server, a little later", async () => {
  const { world, tabs } = await open(3);
  const has = () => [...world.server.sessions.values()].some(({ current, positions }) => current && positions.has("x"));
  for (const { main } of tabs) main.channel("x").subscribe();
  await world.advance(1_000);
  assert.ok(has());
  for (const { main } of tabs.slice(1)) main.channel("x").unsubscribe();
  await world.advance(10_000);
  assert.ok(has());
  tabs[0].main.channel("x").unsubscribe();
  await world.advance(10_000);
  assert.ok(!has());
});

// -- the leader goes

const leaving = {
  crashes: (tab) => tab.crash(),
  "is put into the back/forward cache": (tab) => tab.suspend(),
  disconnects: ({ main }) => main.disconnect(),
  "is moved to a connection of its own": () => {},
};

for (const [how, leave] of Object.entries(leaving)) {
  test(`the leader ${how}: the others go on, over one connection`, async () => {
    const { world, browser, tabs } = await open(5);
    const [first, ...others] = tabs;
    assert.equal(browser.holder, first);
    const [, last] = await publishing(world, 100, async () => {
      await world.advance(500);
      leave(first);
      if (how.includes("moved")) first.main.moveTo("sse");
      await world.advance(500);
    });
    await world.advance(2_000);
    assertWhole(others, last);
    assert.deepEqual(transports(others), Array(4).fill("shared"));
    assert.equal(sessions(world), how.includes("moved") ? 2 : 1);
    for (const { main } of others) assert.equal(main.stats.reconnects, how.includes("moved") ? 0 : 1);
  });
}

test("a page that comes back from the cache has missed nothing", async () => {
  const { world, tabs } = await open(3);
  const [first] = tabs;
  const [, last] = await publishing(world, 200, async () => {
    await world.advance(500);
    first.suspend();
    await world.advance(2_000);
    first.resume();
  });
  await world.advance(10_000);
  assertWhole(tabs, last);
  assert.deepEqual(transports(tabs), Array(3).fill("shared"));
  assert.equal(sessions(world), 1);
});

test("the application of the leader may move away and come back", async () => {
  const { world, tabs } = await open(2);
  const { main } = tabs[0];
  assert.deepEqual(await world.outcome(main.moveTo("sse")), { value: undefined });
  await world.advance(60_000);
  assert.deepEqual(transports(tabs), ["sse", "shared"]);
  main.cut();
  await world.advance(5_000);
  assert.equal(main.transport, "sse");
  assert.deepEqual(await world.outcome(main.moveTo("shared")), { value: undefined });
  assert.equal(sessions(world), 1);
});

test("a leader that is stuck is passed by within seconds, and is the leader again when it is loose", async () => {
  const { world, tabs } = await open(4);
  const [first, ...others] = tabs;
  first.stick();
  await world.advance(6_700);
  assert.deepEqual(states(others), Array(3).fill("connected"));
  assert.deepEqual(transports(others), Array(3).fill("websocket"));
  world.server.publish("chat", "x");
  await world.advance(100);
  assertWhole(others, 1);
  first.loosen();
  await world.advance(120_000);
  assert.deepEqual(transports(tabs), Array(4).fill("shared"));
  assert.equal(sessions(world), 1);
  assertWhole(tabs, 1);
});

test("what is published into a leader that is stuck is answered a second later, once", async () => {
  const { world, tabs } = await open(3);
  await world.advance(3_000);
  tabs[0].stick();
  const { value } = await world.outcome(tabs[1].channel.publish("x"), 1_700);
  assert.equal(value.position.offset, 1);
  tabs[0].loosen();
  await world.advance(10_000);
  assert.equal(world.server.log("chat").offset, 1);
});

test("a new tab beside a leader that is stuck has its own connection within half a second", async () => {
  const { world, browser, tabs } = await open(2);
  tabs[0].stick();
  const client = browser.tab().client();
  client.connect();
  await world.advance(350);
  assert.equal(client.transport, "websocket");
});

// -- the leader has no connection

test("followers of a leader that reconnects wait for it, and say so", async () => {
  const { world, tabs } = await open(4);
  for (const { main } of tabs) main.seen = [];
  world.network.isDown = true;
  world.network.cut();
  await world.advance(2_000);
  assert.deepEqual(states(tabs), Array(4).fill("connecting"));
  const waiting = tabs[1].channel.publish("x");
  world.network.isDown = false;
  const { value } = await world.outcome(waiting, 4_000);
  assert.equal(value.position.offset, 1);
  assert.deepEqual(states(tabs), Array(4).fill("connected"));
  assert.equal(sessions(world), 1);
  assertWhole(tabs, 1);
  for (const { main } of tabs) assert.deepEqual(ownLegs(main), []);
});

test("a short loss of the connection is none of their business", async () => {
  const { world, tabs } = await open(3);
  const [, last] = await publishing(world, 50, async () => {
    await world.advance(300);
    world.network.cut();
  });
  assertWhole(tabs, last);
  for (const { main } of tabs) assert.equal(main.stats.reconnects, 0);
});

test("a leader that stays away is passed by, and comes back into use", async () => {
  const { world, tabs } = await open(3);
  for (const { main } of tabs) main.seen = [];
  world.network.isDown = true;
  world.network.cut();
  await world.advance(4_000);
  for (const { main } of tabs) assert.deepEqual(ownLegs(main), []);
  await world.advance(60_000);
  for (const { main } of tabs) assert.ok(ownLegs(main).includes("websocket"));
  world.network.isDown = false;
  await world.advance(400_000);
  assert.deepEqual(transports(tabs), Array(3).fill("shared"));
  assert.equal(sessions(world), 1);
});

test("a leader whom the server sends away hands over to one whom it does not", async () => {
  const { world, tabs, add } = await open(0);
  world.server.isAnonymousAllowed = false;
  const mine = [token(world), token(world)];
  for (const one of mine) await add({ getToken: () => one });
  assert.deepEqual(transports(tabs), ["shared", "shared"]);
  world.server.tokens.delete(mine[0]);
  world.server.forgetSessions();
  await world.advance(20_000);
  assert.deepEqual(states(tabs), ["connected", "connected"]);
  assert.equal(sessions(world), 1);
});

// -- bounds

test(`more than ${LEGS_MAX} tabs: the others have their own connections`, async () => {
  const world = new World();
  const browser = new Browser(world);
  const clients = Array.from({ length: LEGS_MAX + 3 }, () => browser.tab().client());
  for (const client of clients) client.connect();
  await world.advance(5_000);
  assert.equal(clients.filter(({ transport }) => transport === "shared").length, LEGS_MAX);
  assert.equal(clients.filter(({ transport }) => transport === "websocket").length, 3);
});

test(`more than ${CHANNELS_MAX} channels: refused one by one, or by itself`, async () => {
  const { world, tabs } = await open(2);
  const { main } = tabs[1];
  const subscribed = from(2, CHANNELS_MAX).map((i) => main.channel(`c${i}`).subscribe());
  await world.advance(1_000);
  await Promise.all(subscribed);
  let error;
  main
    .channel("one more")
    .subscribe()
    .catch((rejection) => (error = rejection));
  await world.advance(3_000);
  assert.equal(error, undefined, "it may succeed later, and is asked for again");
  assert.equal(main.channel("one more").state, "subscribing");
  main.cut();
  await world.advance(2_000);
  assert.equal(main.transport, "websocket");
});

test(`more than ${COMMANDS_MAX} commands unanswered: limit_exceeded`, async () => {
  const { world, tabs } = await open(2, { queueMax: 1_000 });
  world.network.faults.websocket = "mute";
  const errors = [];
  world.server.calls.set("slow", () => "done");
  world.network.latencyMs = () => 500;
  for (let i = 0; i < COMMANDS_MAX + 10; i++) tabs[1].main.call("slow").catch((error) => errors.push(error));
  await world.advance(2_000);
  assert.equal(errors.length, 10);
  assert.deepEqual([errors[0].name, errors[0].retryAfterS], ["limit_exceeded", 1]);
});

test("who is too far behind for the leader reads from the server", async () => {
  const { world, tabs } = await open(2);
  for (let i = 1; i <= 6_000; i++) world.server.publish("old", i);
  tabs[0].main.channel("old").subscribe();
  await world.advance(100);
  const channel = tabs[1].main.channel("old", { position: { offset: 0 } });
  const got = record(channel);
  channel.subscribe();
  await world.advance(3_000);
  assert.equal(got.length, 6_000);
  assert.deepEqual(
    got.map(({ offset }) => offset),
    from(1, 6_000),
  );
  await world.advance(60_000);
  assert.deepEqual(transports(tabs), ["shared", "shared"]);
});

test("a follower that has vanished is forgotten", async () => {
  const { world, tabs } = await open(3);
  tabs[2].main.channel("his").subscribe();
  await world.advance(1_000);
  const has = () =>
    [...world.server.sessions.values()].some(({ current, positions }) => current && positions.has("his"));
  assert.ok(has());
  tabs[2].crash();
  await world.advance(300_000);
  assert.ok(!has());
  assert.deepEqual(transports(tabs.slice(0, 2)), ["shared", "shared"]);
});

test("what the server asks the connection to subscribe to is asked of every tab", async () => {
  const { world, tabs } = await open(3);
  const asked = tabs.map(() => []);
  tabs.forEach(({ main }, place) => main.on("subscribe", ({ channel }) => asked[place].push(channel)));
  const [session] = [...world.server.sessions.values()].filter(({ current }) => current);
  world.server.tell(session, { subscribe: { channel: "news", position: { offset: 0 } } });
  await world.advance(500);
  assert.deepEqual(asked, [["news"], ["news"], ["news"]]);
});
