import assert from "node:assert/strict";
import { test } from "node:test";

import { Ladder } from "../../static/hybrid/ladder.js";

const ALL = ["websocket", "sse", "longpoll"];

class Storage {
  items = new Map();
  getItem = (key) => this.items.get(key) ?? null;
  setItem = (key, value) => this.items.set(key, value);
}

const ladder = (storage, names = ALL) => {
  const clock = { ms: 0 };
  return Object.assign(new Ladder(names, { storage, key: "k", now: () => clock.ms }), { clock });
};

test("by preference when nothing is known", () => {
  assert.deepEqual(ladder().order(), ALL);
});

test("what worked last comes first, for a day, also for the next client", () => {
  const storage = new Storage();
  ladder(storage).worked("longpoll");
  const next = ladder(storage);
  assert.deepEqual(next.order(), ["longpoll", "websocket", "sse"]);
  next.clock.ms = 86_400_000;
  assert.deepEqual(next.order(), ALL);
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
  for (const storage of [
    broken,
    undefined,
    { getItem: () => "{", setItem() {} },
    { getItem: () => "7", setItem() {} },
  ]) {
    const one = ladder(storage);
    one.worked("sse");
    assert.deepEqual(one.order(), ALL);
  }
});

test("a remembered name that is not offered changes nothing", () => {
  const storage = new Storage();
  ladder(storage).worked("websocket");
  assert.deepEqual(ladder(storage, ["sse", "longpoll"]).order(), ["sse", "longpoll"]);
});

test("one short life is bad luck, two are a bad network: last for some minutes, and no longer remembered", () => {
  const storage = new Storage();
  const one = ladder(storage);
  one.worked("websocket");
  one.broke("websocket", 200);
  assert.deepEqual(one.order(), ALL);
  one.broke("websocket", 200);
  assert.deepEqual(one.order(), ["sse", "longpoll", "websocket"]);
  assert.equal(one.remembered, undefined);
  assert.deepEqual(one.better("longpoll"), ["sse"]);
  one.clock.ms = 300_000;
  assert.deepEqual(one.order(), ALL);
});

test("a long life wipes the strikes out", () => {
  const one = ladder();
  one.broke("websocket", 200);
  one.broke("websocket", 60_000);
  one.broke("websocket", 200);
  assert.deepEqual(one.order(), ALL);
});

test("when all flap alike, none is left out", () => {
  const one = ladder();
  for (const name of [...ALL, ...ALL]) one.broke(name, 10);
  assert.deepEqual(one.order(), ALL);
});

test("a refused transport is never tried again", () => {
  const one = ladder();
  one.refuse("websocket");
  assert.deepEqual(one.order(), ["sse", "longpoll"]);
  assert.deepEqual(one.better("longpoll"), ["sse"]);
});

test("what the application chose comes before what worked, and nothing is better", () => {
  const one = ladder(new Storage());
  one.worked("websocket");
  one.pin("longpoll");
  assert.deepEqual(one.order(), ["longpoll", "websocket", "sse"]);
  assert.deepEqual(one.better("longpoll"), []);
});
