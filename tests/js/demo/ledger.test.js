import assert from "node:assert/strict";
import { test } from "node:test";

import { Ledger } from "../../../static/demo/ledger.js";

const EPOCH = "k3f9";

/** A publication; the tag follows from the offset, as it does in one log. */
const at = (offset, { channel = "demo:cpu", epoch = EPOCH, tag = `tag${offset}` } = {}) => ({ channel, epoch, offset, tag });

/** Records offsets and gives the figures of their channel. */
function counted(...offsets) {
  const ledger = new Ledger();
  const verdicts = offsets.map((offset) => ledger.record(at(offset)));
  return { verdicts, ...ledger.channel("demo:cpu") };
}

test("one after the other is all well, wherever it starts", () => {
  const { verdicts, received, lost, repeated, reordered, resets, offset } = counted(41, 42, 43);
  assert.deepEqual(verdicts, ["first", "next", "next"]);
  assert.deepEqual([received, lost, repeated, reordered, resets, offset], [3, 0, 0, 0, 0, 43]);
});

test("a hole counts every publication that is missing in it", () => {
  const { verdicts, received, lost, offset } = counted(1, 2, 6);
  assert.deepEqual(verdicts, ["first", "next", "hole"]);
  assert.deepEqual([received, lost, offset], [3, 3, 6]);
});

test("what comes after all is reordered and no longer lost", () => {
  const { verdicts, lost, repeated, reordered, offset } = counted(1, 3, 2, 4);
  assert.deepEqual(verdicts, ["first", "hole", "late", "next"]);
  assert.deepEqual([lost, repeated, reordered, offset], [0, 0, 1, 4]);
});

test("a hole can be filled from its middle", () => {
  const { verdicts, lost, reordered } = counted(1, 6, 4, 2, 5, 4);
  assert.deepEqual(verdicts, ["first", "hole", "late", "late", "late", "repeat"]);
  assert.deepEqual([lost, reordered], [1, 3]);
});

test("the same publication again is repeated, and nothing else", () => {
  const { verdicts, received, lost, repeated, reordered } = counted(1, 2, 2, 1, 3);
  assert.deepEqual(verdicts, ["first", "next", "repeat", "repeat", "next"]);
  assert.deepEqual([received, lost, repeated, reordered], [5, 0, 2, 0]);
});

test("another publication under a taken offset is a fork", () => {
  const ledger = new Ledger();
  ledger.record(at(1));
  ledger.record(at(2));
  assert.equal(ledger.record(at(2, { tag: "other" })), "fork");
  assert.deepEqual([ledger.totals().forked, ledger.totals().repeated], [1, 0]);
});

test("after a reset that was told the counting starts anew, without a loss", () => {
  const ledger = new Ledger();
  ledger.record(at(1));
  ledger.reset("demo:cpu", { epoch: "new1", offset: 10 });
  assert.equal(ledger.record(at(11, { epoch: "new1" })), "next");
  assert.deepEqual([ledger.totals().resets, ledger.totals().lost], [1, 0]);
});

test("after a reset a hole is a hole again", () => {
  const ledger = new Ledger();
  ledger.record(at(1));
  ledger.reset("demo:cpu", { epoch: "new1", offset: 10 });
  assert.equal(ledger.record(at(13, { epoch: "new1" })), "hole");
  assert.equal(ledger.totals().lost, 2);
});

test("a reset to the start takes any epoch and expects offset 1", () => {
  const ledger = new Ledger();
  ledger.record(at(5));
  ledger.reset("demo:cpu", { epoch: "", offset: 0 });
  assert.equal(ledger.record(at(3, { epoch: "new1" })), "hole");
  assert.deepEqual([ledger.totals().resets, ledger.totals().lost], [1, 2]);
});

test("an epoch that changes untold counts as a reset", () => {
  const ledger = new Ledger();
  ledger.record(at(5));
  assert.equal(ledger.record(at(2, { epoch: "new1" })), "first");
  assert.equal(ledger.totals().resets, 1);
});

test("channels are counted apart and summed", () => {
  const ledger = new Ledger();
  ledger.record(at(1));
  ledger.record(at(3));
  ledger.record(at(7, { channel: "demo:chat" }));
  ledger.record(at(7, { channel: "demo:chat" }));
  assert.equal(ledger.channel("demo:cpu").lost, 1);
  assert.equal(ledger.channel("demo:chat").repeated, 1);
  const { received, lost, repeated, reordered } = ledger.totals();
  assert.deepEqual([received, lost, repeated, reordered], [4, 1, 1, 0]);
  assert.equal(ledger.channel("never:heard").offset, -1);
});

test("names of an object's own properties are channels like any other", () => {
  const ledger = new Ledger();
  ledger.record(at(1, { channel: "__proto__" }));
  assert.equal(ledger.record(at(2, { channel: "__proto__" })), "next");
});

test("memory is bounded: the oldest hole stays lost, the oldest tags are forgotten, the count goes on", () => {
  const ledger = new Ledger();
  ledger.record(at(0));
  for (let offset = 2; offset <= 2 * 300; offset += 2) ledger.record(at(offset)); // 300 holes, 256 are remembered
  assert.equal(ledger.totals().lost, 300);
  assert.equal(ledger.record(at(1)), "repeat");
  assert.equal(ledger.totals().lost, 300);
  assert.equal(ledger.record(at(599)), "late");
  for (let offset = 601; offset <= 601 + 1024; offset += 1) ledger.record(at(offset));
  assert.equal(ledger.record(at(600, { tag: "other" })), "repeat"); // its tag is no longer known
  assert.equal(ledger.record(at(1600, { tag: "other" })), "fork");
});

test("any shuffle with losses and repeats is counted as a naive count would", () => {
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (let round = 0; round < 200; round += 1) {
    const sent = Array.from({ length: 40 }, (_, index) => index + 1);
    const kept = sent.filter((offset) => offset === 1 || offset === 40 || random() > 0.1);
    const received = kept.flatMap((offset) => (random() < 0.1 ? [offset, offset] : [offset]));
    // Neighbours change places now and then; the first stays, since it is the one that sets where counting starts.
    for (let index = 1; index + 1 < received.length; index += 1) {
      if (random() < 0.1) [received[index], received[index + 1]] = [received[index + 1], received[index]];
    }
    const seen = new Set();
    let highest = 0;
    let [repeated, reordered] = [0, 0];
    for (const offset of received) {
      if (seen.has(offset)) repeated += 1;
      else if (offset < highest) reordered += 1;
      seen.add(offset);
      highest = Math.max(highest, offset);
    }
    const figures = counted(...received);
    assert.deepEqual(
      [figures.received, figures.lost, figures.repeated, figures.reordered],
      [received.length, highest - seen.size, repeated, reordered],
      `round ${round}: ${received}`,
    );
  }
});
