import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser } from "../../static/hybrid/eventstream.js";
import { seeded } from "./support/clock.js";

const parse = (chunks, maximum) => {
  const events = [];
  const parser = new EventStreamParser((event) => events.push(event), maximum);
  for (const chunk of chunks) parser.feed(chunk);
  return events;
};

const message = (data) => data;

const STREAM =
  ": padding\n\ndata: one\n\nevent: said\r\ndata: two\r\ndata:  lines\r\n\r\n" +
  ':\rdata:three\r\rdata\n\nid: 7\nretry: 10\nunknown: x\ndata: {"a":"é😀"}\n\ndata: never finished';
const EVENTS = [message("one"), "two\n lines", message("three"), message(""), message('{"a":"é😀"}')];

test("a whole stream, with every line ending", () => {
  assert.deepEqual(parse([STREAM]), EVENTS);
});

test("byte by byte", () => {
  assert.deepEqual(parse(STREAM.split("")), EVENTS);
});

test("cut in two at every place", () => {
  for (let at = 0; at <= STREAM.length; at++) {
    assert.deepEqual(parse([STREAM.slice(0, at), STREAM.slice(at)]), EVENTS, `cut at ${at}`);
  }
});

test("any chunking, empty chunks included", () => {
  const random = seeded(7);
  for (let run = 0; run < 300; run++) {
    const chunks = [];
    for (let at = 0; at < STREAM.length;) {
      const size = Math.floor(random() * 9);
      chunks.push(STREAM.slice(at, at + size));
      at += size;
    }
    assert.deepEqual(parse(chunks), EVENTS);
  }
});

test("a CR that ends a chunk is one line ending with the LF that begins the next", () => {
  assert.deepEqual(parse(["data: a\r", "\ndata: b\r", "\n\r", "\n"]), [message("a\nb")]);
});

test("a block without data is no event, and its fields do not leak into the next", () => {
  assert.deepEqual(parse(["event: said\n\ndata: a\n\n"]), [message("a")]);
});

test("an event up to the limit passes, in one line or in many; one character more does not", () => {
  assert.deepEqual(parse([`data:${"x".repeat(95)}\n\n`], 100), [message("x".repeat(95))]);
  assert.throws(() => parse([`data:${"x".repeat(96)}\n\n`], 100), RangeError);
  assert.throws(() => parse(["data:xxxxx\n".repeat(11)], 100), RangeError);
  assert.throws(() => parse(["data:", ..."x".repeat(96)], 100), RangeError, "a line that never ends");
});

test("the limit is for one event: a long stream of small ones passes", () => {
  assert.equal(parse(["data:x\n\n".repeat(1000)], 100).length, 1000);
});
