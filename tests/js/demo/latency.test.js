import assert from "node:assert/strict";
import { test } from "node:test";

import { LatencyWindow } from "../../../static/demo/latency.js";

const filled = (...samples) => {
  const window = new LatencyWindow();
  for (const [at_ms, latency_ms, transport = "sse"] of samples) window.add(at_ms, latency_ms, transport);
  return window;
};

test("the last and the middle of odd and even counts", () => {
  assert.equal(filled().last_ms, null);
  assert.equal(filled().median_ms(0), null);
  const odd = filled([0, 9], [1, 1], [2, 5]);
  assert.deepEqual([odd.last_ms, odd.median_ms(2)], [5, 5]);
  assert.equal(filled([0, 9], [1, 1], [2, 5], [3, 3]).median_ms(3), 4);
});

test("numbers are sorted as numbers", () => {
  assert.equal(filled([0, 10], [1, 9], [2, 100]).median_ms(2), 10);
});

test("what is older than a minute is forgotten", () => {
  const window = filled([0, 500], [30_000, 2], [60_000, 4]);
  assert.equal(window.median_ms(60_000), 4);
  assert.equal(window.median_ms(60_001), 3);
  assert.equal(window.median_ms(200_000), null);
});

test("slices have their least, middle and largest, and stand still when time moves on", () => {
  const window = filled([1000, 2], [1100, 8], [1400, 4], [1600, 7, "websocket"]);
  const slices = window.slices(2000, 500);
  assert.deepEqual(slices, [
    { at_ms: 1250, low_ms: 2, middle_ms: 4, high_ms: 8, transport: "sse" },
    { at_ms: 1750, low_ms: 7, middle_ms: 7, high_ms: 7, transport: "websocket" },
  ]);
  assert.deepEqual(window.slices(2123, 500), slices);
});

test("empty slices are left out", () => {
  assert.deepEqual(filled([100, 1], [5100, 1]).slices(5200, 500).map(({ at_ms }) => at_ms), [250, 5250]);
});

test("a flood drops the oldest and stays bounded", () => {
  const window = new LatencyWindow();
  for (let turn = 0; turn < 20_000; turn += 1) window.add(turn / 1000, turn < 19_000 ? 1 : 2, "sse");
  const total = window.slices(20, 0.001).length;
  assert.ok(total <= 4096 && total > 1000, String(total));
});
