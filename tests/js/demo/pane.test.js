import assert from "node:assert/strict";
import { test } from "node:test";

import { ServerClock } from "../../../static/demo/clock.js";
import { Emitter } from "../../../static/demo/emitter.js";
import { Pane } from "../../../static/demo/pane.js";

const CPU = "demo:cpu";

class Channel extends Emitter {
  isRefused = false;
  async subscribe() {
    if (this.isRefused) throw new Error("forbidden");
  }
}

/** As much of the client as a pane sees. */
class Client extends Emitter {
  state = "disconnected";
  transport = undefined;
  stats = { gaps: 0, dropped: 0 };
  channels = new Map();
  worksOn = new Set(["websocket", "sse", "longpoll"]);
  onMove = () => {};
  channel(name, options) {
    const channel = Object.assign(this.channels.get(name) ?? new Channel(), { options });
    this.channels.set(name, channel);
    return channel;
  }
  connect() {
    this.come("websocket");
  }
  come(transport) {
    this.transport = transport;
    this.emit("transport", { transport });
    if (this.state === "connected") return;
    this.state = "connected";
    this.emit("state", {});
  }
  cut() {
    this.transport = undefined;
    this.state = "connecting";
    this.emit("state", {});
  }
  async moveTo(transport) {
    this.onMove();
    if (!this.worksOn.has(transport)) throw new Error("refused");
    this.come(transport);
  }
}

function opened() {
  const time = { now_ms: 1_000_000 };
  const client = new Client();
  const clock = new ServerClock();
  for (let turn = 0; turn < 3; turn += 1) {
    clock.observe({ sent_ms: time.now_ms - 2, server_ms: time.now_ms - 1, received_ms: time.now_ms });
  }
  let returns = 0;
  const pane = new Pane({ id: "p", title: "P", client, clock, now: () => time.now_ms, networkReturned: () => (returns += 1) });
  pane.open({ [CPU]: { history: 1 } });
  const give = (offset, { at_ms = time.now_ms - 5, transport = client.transport, data = { at_ms } } = {}) =>
    client.channels.get(CPU).emit("publication", { channel: CPU, epoch: "e", offset, tag: `t${offset}`, data, transport });
  const kinds = () => pane.marks.map(({ kind }) => kind);
  return { time, client, pane, give, kinds, returns: () => returns };
}

test("publications are counted, timed and handed on, in that order", () => {
  const { pane, give, client, time } = opened();
  assert.deepEqual(client.channels.get(CPU).options, { history: 1 });
  const handed = [];
  pane.on("publication", ({ offset }) => handed.push([offset, pane.ledger.channel(CPU).offset]));
  time.now_ms += 100;
  give(7);
  give(8);
  assert.deepEqual(handed, [[7, 7], [8, 8]]);
  assert.equal(pane.latency.last_ms, 5);
});

test("history from before the page, and what carries no time, has no latency", () => {
  const { pane, give } = opened();
  give(1, { at_ms: 900_000 });
  give(2, { data: { text: "hello" } });
  give(3, { data: null });
  assert.equal(pane.latency.last_ms, null);
  assert.equal(pane.ledger.totals().received, 3);
});

test("the first connection is no event", () => {
  const { pane, kinds } = opened();
  assert.deepEqual([kinds(), pane.outages, pane.isConnected], [[], [], true]);
  assert.equal(pane.news, "Connected over WebSocket in 0.0\u202fms");
});

test("a cut is marked, lasts until the session is back, and says how long it took", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { pane, client, time, kinds, returns } = opened();
  assert.equal(pane.cut(), true);
  assert.equal(pane.cut(), false, "there is nothing left to cut");
  assert.deepEqual(pane.outages, [{ from_ms: 1_000_000, to_ms: null }]);
  context.mock.timers.tick(250);
  assert.equal(returns(), 1);
  time.now_ms += 40;
  client.come("sse");
  assert.deepEqual(kinds(), ["cut", "back"]);
  assert.deepEqual(pane.outages, [{ from_ms: 1_000_000, to_ms: 1_000_040 }]);
  assert.equal(pane.news, "Back on SSE after 40\u202fms");
});

test("a connection that is lost without our doing is an outage as well", () => {
  const { pane, client } = opened();
  client.cut();
  assert.equal(pane.outages.length, 1);
});

test("a move is marked once and told with the time it took", async () => {
  const { pane, client, time, kinds } = opened();
  client.onMove = () => (time.now_ms += 30);
  await pane.moveTo("longpoll");
  await pane.moveTo("longpoll");
  assert.deepEqual(kinds(), ["moved"]);
  assert.equal(pane.news, "Moved to long polling in 30\u202fms");
  assert.deepEqual(pane.outages, []);
});

test("a move that does not work is marked as that, and the session stays", async () => {
  const { pane, client, kinds } = opened();
  client.worksOn.delete("sse");
  await pane.moveTo("sse");
  assert.deepEqual([kinds(), pane.transport], [["failed"], "websocket"]);
});

test("a session that finds a better transport by itself is marked", () => {
  const { client, kinds } = opened();
  client.come("sse");
  assert.deepEqual(kinds(), ["moved"]);
});

test("a reset goes to the ledger and is marked", () => {
  const { pane, client, give, kinds } = opened();
  give(1);
  client.channels.get(CPU).emit("reset", { position: { epoch: "e2", offset: 9 } });
  assert.deepEqual([kinds(), pane.ledger.totals().resets], [["failed"], 1]);
});

test("a session that was told to stay away is opened again after a pause", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { pane, client } = opened();
  Object.assign(client, { state: "disconnected", transport: undefined });
  client.emit("state", {});
  context.mock.timers.tick(2_999);
  assert.deepEqual([pane.isConnected, pane.outages.at(-1).to_ms], [false, null]);
  context.mock.timers.tick(1);
  assert.equal(pane.isConnected, true);
  assert.notEqual(pane.outages.at(-1).to_ms, null);
});

test("events of more than a minute ago are forgotten, an open outage is not", () => {
  const { pane, client, time } = opened();
  client.come("sse");
  client.cut();
  time.now_ms += 60_001;
  pane.forgetOld();
  assert.deepEqual([pane.marks.length, pane.outages.length], [0, 1]);
});

test("events are bounded however fast they come", () => {
  const { pane, client } = opened();
  for (let turn = 0; turn < 1000; turn += 1) {
    client.cut();
    client.come("sse");
  }
  pane.forgetOld();
  assert.deepEqual([pane.marks.length, pane.outages.length], [256, 256]);
});
