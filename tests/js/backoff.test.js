import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../../static/hybrid/backoff.js";
import { seeded } from "./support/clock.js";

test("ceilings double up to the last one", () => {
  const backoff = new Backoff(() => 1);
  const waits = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
});

test("the jitter is full: from nothing to the ceiling", () => {
  assert.equal(new Backoff(() => 0).next(), 0);
  const random = seeded(3);
  const waits = Array.from({ length: 2000 }, () => new Backoff(random).next());
  assert.ok(Math.min(...waits) < 25);
  assert.ok(Math.max(...waits) > 475);
  const mean = waits.reduce((sum, wait) => sum + wait) / waits.length;
  assert.ok(Math.abs(mean - 250) < 15, `mean ${mean}`);
});

test("only a leg that lived for a while resets it", () => {
  const backoff = new Backoff(() => 1);
  backoff.next();
  backoff.next();
  backoff.lived(999);
  assert.equal(backoff.next(), 2000);
  backoff.lived(1_000);
  assert.equal(backoff.next(), 500);
});
