import assert from "node:assert/strict";
import { test } from "node:test";

import { byteRate, count, duration, durationText, memorySize, percent, shortCount } from "../../../static/demo/format.js";
import { linearScale, logScale, roundUp } from "../../../static/demo/scale.js";

const plain = (text) => text.replaceAll("\u202f", " ");

test("counts", () => {
  assert.equal(count(1234567), "1,234,567");
  assert.deepEqual([0, 9999, 10_000, 99_949, 123_456, 2_500_000].map(shortCount), ["0", "9,999", "10.0k", "99.9k", "123k", "2.5M"]);
});

test("durations change their unit with their size", () => {
  assert.deepEqual(duration(null), ["–", "ms"]);
  assert.deepEqual(duration(Infinity), ["–", "ms"]);
  assert.deepEqual([0.04, 4.25, 42.4, 999, 1240, 12_400].map((value) => plain(durationText(value))), [
    "0.0 ms", "4.3 ms", "42 ms", "999 ms", "1.2 s", "12 s",
  ]);
});

test("bytes and shares", () => {
  assert.deepEqual([0, 999, 1000, 33_400, 912_345, 1_400_000, 5e12].map((value) => plain(byteRate(value))), [
    "0 B/s", "999 B/s", "1.0 kB/s", "33.4 kB/s", "912 kB/s", "1.4 MB/s", "5000 GB/s",
  ]);
  assert.deepEqual([5.2 * 2 ** 30, 894 * 2 ** 20].map((value) => plain(memorySize(value))), ["5.2 GiB", "894 MiB"]);
  assert.equal(plain(percent(41.6)), "42 %");
});

test("a linear scale goes from 0 to its largest and stays within", () => {
  const { place, ticks } = linearScale(200, String);
  assert.deepEqual([-5, 0, 50, 200, 900].map(place), [0, 0, 0.25, 1, 1]);
  assert.deepEqual(ticks.map(({ label }) => label), ["0", "100", "200"]);
});

test("a logarithmic scale gives each power of ten the same room", () => {
  const { place, ticks } = logScale(0.1, 1000, String);
  const near = (value, expected) => assert.ok(Math.abs(place(value) - expected) < 1e-9, String(value));
  near(0, 0);
  near(0.1, 0);
  near(1, 0.25);
  near(10, 0.5);
  near(1000, 1);
  near(1e9, 1);
  assert.deepEqual(ticks.map(({ label }) => label), ["0.1", "1", "10", "100", "1000"]);
});

test("round figures above", () => {
  assert.deepEqual([1, 1.1, 2, 3, 6, 10, 48_000, 100_000].map(roundUp), [1, 2, 2, 5, 10, 10, 50_000, 100_000]);
});
