import assert from "node:assert/strict";
import { test } from "node:test";

import { Storm } from "../../../static/demo/storm.js";

const TRANSPORTS = ["websocket", "sse", "longpoll"];

function weather() {
  const done = [];
  const panes = ["a", "b", "c", "d"].map((id) => ({
    cut: () => done.push([id, "cut"]),
    moveTo: (transport) => done.push([id, transport]),
  }));
  const timers = {
    setInterval: (callback, every_ms) => Object.assign(timers, { callback, every_ms }) && 1,
    clearInterval: () => Object.assign(timers, { callback: () => {} }),
  };
  return { done, timers, storm: new Storm({ panes, transports: TRANSPORTS, timers }) };
}

test("every second each pane is cut once and moved once, one at a time", () => {
  const { done, timers, storm } = weather();
  storm.start();
  assert.equal(timers.every_ms, 250);
  for (let step = 0; step < 4; step += 1) timers.callback();
  assert.deepEqual(done.filter(([, what]) => what === "cut").map(([id]) => id), ["a", "b", "c", "d"]);
  assert.deepEqual(done.filter(([, what]) => what !== "cut").map(([id]) => id), ["c", "d", "a", "b"]);
});

test("a pane is never cut and moved in the same step, and visits every transport", () => {
  const { done, timers, storm } = weather();
  storm.start();
  const visited = new Set();
  for (let step = 0; step < 12; step += 1) {
    done.length = 0;
    timers.callback();
    const [[cut], [moved, transport]] = done;
    assert.notEqual(cut, moved);
    if (moved === "a") visited.add(transport);
  }
  assert.deepEqual([...visited].sort(), [...TRANSPORTS].sort());
});

test("it stops, and starting twice is starting once", () => {
  const { done, timers, storm } = weather();
  storm.start();
  const { callback } = timers;
  storm.start();
  assert.equal(timers.callback, callback);
  storm.stop();
  assert.equal(storm.isOn, false);
  timers.callback();
  assert.deepEqual(done, []);
});
