import assert from "node:assert/strict";
import { test } from "node:test";

import { ServerClock, keepAsking } from "../../../static/demo/clock.js";

const answer = (clock, { sent_ms, there_ms, back_ms, offset_ms }) =>
  clock.observe({ sent_ms, server_ms: sent_ms + there_ms + offset_ms, received_ms: sent_ms + there_ms + back_ms });

test("an even round trip gives the offset exactly", () => {
  const clock = new ServerClock();
  answer(clock, { sent_ms: 1000, there_ms: 8, back_ms: 8, offset_ms: -5000 });
  assert.equal(clock.offset_ms, -5000);
  assert.equal(clock.uncertainty_ms, 8);
  assert.equal(clock.latency_ms(-3000, 2004), 4);
});

test("the quickest answer wins, and an uneven one is wrong by half of its round trip at most", () => {
  const clock = new ServerClock();
  answer(clock, { sent_ms: 1000, there_ms: 400, back_ms: 2, offset_ms: 300 });
  answer(clock, { sent_ms: 2000, there_ms: 9, back_ms: 1, offset_ms: 300 });
  answer(clock, { sent_ms: 3000, there_ms: 90, back_ms: 70, offset_ms: 300 });
  assert.ok(Math.abs(clock.offset_ms - 300) <= clock.uncertainty_ms);
  assert.equal(clock.uncertainty_ms, 5);
});

test("it is believed after three answers, and what makes no sense is none", () => {
  const clock = new ServerClock();
  clock.observe({ sent_ms: 0, server_ms: undefined, received_ms: 1 });
  clock.observe({ sent_ms: 0, server_ms: NaN, received_ms: 1 });
  clock.observe({ sent_ms: 2, server_ms: 1, received_ms: 1 });
  answer(clock, { sent_ms: 0, there_ms: 1, back_ms: 1, offset_ms: 0 });
  answer(clock, { sent_ms: 5, there_ms: 1, back_ms: 1, offset_ms: 0 });
  assert.equal(clock.isKnown, false);
  answer(clock, { sent_ms: 9, there_ms: 1, back_ms: 1, offset_ms: 0 });
  assert.equal(clock.isKnown, true);
});

test("answers are kept for a while only: a drifting clock is followed", () => {
  const clock = new ServerClock();
  answer(clock, { sent_ms: 0, there_ms: 1, back_ms: 1, offset_ms: 50 });
  for (let turn = 1; turn <= 16; turn += 1) {
    answer(clock, { sent_ms: turn * 100, there_ms: 3, back_ms: 3, offset_ms: 70 });
  }
  assert.equal(clock.offset_ms, 70);
});

test("a latency is never below zero", () => {
  assert.equal(new ServerClock().latency_ms(2000, 1999), 0);
});

test("the first answers are asked for quickly; one that fails is skipped", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const clock = new ServerClock();
  let now_ms = 0;
  let asked = 0;
  const fetch = async (url, { cache }) => {
    assert.deepEqual([url, cache], ["/demo/clock", "no-store"]);
    asked += 1;
    now_ms += 10;
    if (asked === 2) throw new TypeError("no network");
    return { json: async () => ({ at_ms: now_ms - 5 + 40 }) };
  };
  const stop = keepAsking(clock, "/demo/clock", { fetch, now: () => now_ms });
  const turn = async (ms) => {
    await new Promise(setImmediate);
    context.mock.timers.tick(ms);
    await new Promise(setImmediate);
  };
  for (let round = 0; round < 4; round += 1) await turn(150);
  assert.equal(asked, 5);
  assert.equal(clock.isKnown, true);
  assert.equal(clock.offset_ms, 40);
  stop();
  await turn(60_000);
  assert.equal(asked, 5);
});
