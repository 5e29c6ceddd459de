/** Which transport comes next, from what was measured, and what is remembered of it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Ladder } from "../../static/hybrid/ladder.js";
import { Memory } from "../../static/hybrid/memory.js";

const ALL = ["websocket", "sse", "longpoll"];
const POLLS = ["longpoll", "websocket", "sse"];
const SPOILT = ["sse", "longpoll", "websocket"];
const DAY_MS = 86_400_000;

class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
}

const ladder = (storage, { names = ALL, nowMs = 1_000 } = {}) => {
  const clock = { ms: nowMs };
  const now = () => clock.ms;
  return Object.assign(new Ladder(names, new Memory({ storage, key: "k", now }), now), { clock });
};

const websocket = { transport: "websocket", isPolled: false, intervalMs: 20_000 };
const polls = { transport: "longpoll", isPolled: true, intervalMs: 20_000 };
const shortLife = { livedMs: 200, idleMs: 0 };

test("by preference when nothing is known", () => {
  assert.deepEqual(ladder().order(), ALL);
});

test("what worked last comes first, also for the next page, with the time it took", () => {
  const storage = new Storage();
  ladder(storage).worked("longpoll", 120);
  const next = ladder(storage);
  assert.deepEqual(next.order(), ["longpoll", "websocket", "sse"]);
  assert.equal(next.memory.latency_ms, 120);
});

test("a day after it began, all is measured anew, however often it was confirmed meanwhile", () => {
  const storage = new Storage();
  ladder(storage, { nowMs: 0 }).worked("longpoll", 120);
  ladder(storage, { nowMs: DAY_MS - 1 }).worked("longpoll", 120);
  assert.deepEqual(ladder(storage, { nowMs: DAY_MS }).order(), ALL);
});

test("storage that throws, lies or is missing is no trouble", () => {
  const broken = {
    getItem() {
      throw new Error("denied");
    },
    setItem() {
      throw new Error("full");
    },
  };
  for (const text of [
    undefined,
    "{",
    "7",
    "null",
    '{"at_ms": "x", "transport": "sse"}',
    '{"transport": "sse"}',
    "[]",
  ]) {
    const one = ladder(text === undefined ? broken : { getItem: () => text, setItem() {} });
    assert.deepEqual(one.order(), ALL, text);
    one.worked("sse", 10);
    assert.deepEqual(one.order(), ["sse", "websocket", "longpoll"], "remembered as long as the page lives");
  }
  assert.deepEqual(ladder(undefined).order(), ALL);
});

test("a remembered name that is not offered changes nothing", () => {
  const storage = new Storage();
  ladder(storage).worked("websocket", 10);
  assert.deepEqual(ladder(storage, { names: ["sse", "longpoll"] }).order(), ["sse", "longpoll"]);
});

test("a short life puts a transport last, for a time that grows with each, up to a day", () => {
  const storage = new Storage();
  const one = ladder(storage);
  one.worked("websocket", 10);
  for (const ms of [30_000, 300_000, 3_000_000, 30_000_000, DAY_MS, DAY_MS]) {
    one.broke(websocket, shortLife);
    assert.deepEqual(one.order(), SPOILT);
    assert.equal(one.memory.transport, undefined, "no longer remembered");
    assert.deepEqual(one.better("longpoll"), ["sse"]);
    one.clock.ms += ms - 1;
    assert.deepEqual(one.order(), SPOILT, `${ms}`);
    one.clock.ms += 1;
    assert.deepEqual(one.order(), ALL, `${ms}`);
  }
});

test("a life of a minute wipes that out", () => {
  const one = ladder();
  one.broke(websocket, shortLife);
  one.broke(websocket, { livedMs: 60_000, idleMs: 0 });
  assert.deepEqual(one.order(), ALL);
  one.broke(websocket, shortLife);
  one.clock.ms += 29_999;
  assert.deepEqual(one.order(), SPOILT);
  one.clock.ms += 1;
  assert.deepEqual(one.order(), ALL, "it counts as the first again");
});

test("what worked and then went deaf is forgiven once in ten minutes; what is deaf from the start is not", () => {
  const one = ladder();
  const deaf = { livedMs: 60_000, idleMs: 5_000, fault: "mute" };
  one.broke(websocket, deaf);
  assert.deepEqual(one.order(), ALL);
  one.clock.ms += 600_000;
  one.broke(websocket, deaf);
  assert.deepEqual(one.order(), ALL);
  one.clock.ms += 599_999;
  one.broke(websocket, deaf);
  assert.deepEqual(one.order(), SPOILT);
  const other = ladder();
  other.broke(websocket, { livedMs: 2_000, idleMs: 2_000, fault: "mute" });
  assert.deepEqual(other.order(), SPOILT);
});

test("an idle cut first shortens the heartbeat asked for, and spoils the transport where that is no cure", () => {
  const storage = new Storage();
  const one = ladder(storage);
  one.broke(websocket, { livedMs: 40_000, idleMs: 15_000 });
  assert.equal(one.memory.heartbeat_s, 9);
  assert.deepEqual(one.order(), ALL);
  one.broke({ ...websocket, intervalMs: 9_000 }, { livedMs: 9_000, idleMs: 8_000 });
  assert.equal(one.memory.heartbeat_s, 5, "the server gives no shorter one");
  assert.equal(ladder(storage).memory.heartbeat_s, 5, "remembered");
  one.broke({ ...websocket, intervalMs: 5_000 }, { livedMs: 9_000, idleMs: 8_000 });
  assert.deepEqual(one.order(), POLLS);
  assert.deepEqual(one.tried("sse"), [{ transport: "websocket", reason: "idle_cut" }]);
});

test("cut after a silence that no heartbeat can shorten: the other streams would be cut as well", () => {
  const one = ladder();
  one.broke(websocket, { livedMs: 7_000, idleMs: 1_000 });
  assert.equal(one.memory.heartbeat_s, undefined);
  assert.deepEqual(one.order(), POLLS);
});

test("where it went deaf nobody knows when: half of what is asked for now", () => {
  const one = ladder();
  one.broke(websocket, { livedMs: 100_000, idleMs: 27_000, fault: "mute" });
  assert.equal(one.memory.heartbeat_s, 10);
});

test("polls mend themselves: nothing spoils them", () => {
  const one = ladder();
  for (const idleMs of [0, 600, 600, 10_000]) one.broke(polls, { livedMs: 1_000, idleMs });
  assert.deepEqual(one.order(), ALL);
  assert.equal(one.memory.wait_s, undefined);
});

test("when all flap alike, none is left out", () => {
  const one = ladder();
  for (const transport of [...ALL, ...ALL]) one.broke({ ...websocket, transport }, shortLife);
  assert.deepEqual(one.order(), ALL);
});

test("a refused transport is never tried again", () => {
  const one = ladder();
  one.refuse("websocket");
  assert.deepEqual(one.order(), ["sse", "longpoll"]);
  assert.deepEqual(one.better("longpoll"), ["sse"]);
  assert.deepEqual(one.better("websocket"), []);
});

test("what the application chose comes before what worked, and nothing is better", () => {
  const one = ladder(new Storage());
  one.worked("websocket", 10);
  one.pin("longpoll");
  assert.deepEqual(one.order(), ["longpoll", "websocket", "sse"]);
  assert.deepEqual(one.better("longpoll"), []);
});

test("why better transports are not used is told, until they are", () => {
  const one = ladder();
  one.failed("websocket", "refused");
  one.failed("longpoll", "mute");
  assert.deepEqual(one.tried("sse"), [{ transport: "websocket", reason: "refused" }]);
  assert.deepEqual(one.tried("websocket"), []);
  one.worked("websocket", 10);
  assert.deepEqual(one.tried("sse"), []);
});
