/**
 * The wire examples that the server's tests read too: what it writes, this client reads. The client looks at the fields
 * it knows and checks no more than it needs, so an example with further fields has to contain what is expected.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decode, isChannelName } from "../../static/hybrid/codec.js";
import { EventStreamParser } from "../../static/hybrid/eventstream.js";

const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));
const bytesOf = ({ text, base64 }) => Buffer.from(base64 ?? text, base64 === undefined ? "utf8" : "base64");

/** `value` without what `known` does not have. */
const only = (known, value) => {
  if (!known || typeof known !== "object" || Array.isArray(known)) return value;
  return Object.fromEntries(Object.keys(known).map((key) => [key, only(known[key], value?.[key])]));
};

for (const { name, text, value, error } of load("pushes")) {
  if (error) continue; // in their own test below: the client is more lenient than a validator
  test(`push: ${name}`, () => {
    const [push, ...rest] = decode(text);
    assert.deepEqual(only(value, push), value);
    assert.equal(rest.length, 0);
  });
}

test("what is not a push is refused, or has no field that means anything", () => {
  const meaning = ["attached", "subscribed", "reply", "publication", "reset", "unsubscribed", "expiring", "disconnect"];
  for (const { name, text, error } of load("pushes")) {
    if (!error) continue;
    let pushes = [];
    try {
      pushes = decode(text);
    } catch (refusal) {
      assert.ok(refusal instanceof SyntaxError, name);
    }
    assert.ok(!pushes.some((push) => meaning.some((field) => push[field])), name);
  }
});

for (const { name, text, error } of load("channels")) {
  if (text === undefined) continue; // not UTF-8: there are no such strings here
  test(`channel name: ${name}`, () => assert.equal(isChannelName(text), !error));
}

test("a lone surrogate is no channel name", () => assert.equal(isChannelName("a\ud800"), false));

for (const one of load("eventstreams")) {
  if (one.error) continue;
  test(`event stream: ${one.name}`, () => {
    const bytes = bytesOf(one);
    for (const size of [bytes.length || 1, 1, 2, 3, 7]) {
      const events = [];
      const parser = new EventStreamParser((event) => events.push(event));
      const decoder = new TextDecoder();
      for (let at = 0; at < bytes.length; at += size)
        parser.feed(decoder.decode(bytes.subarray(at, at + size), { stream: true }));
      // Session streams carry neither ids nor names, and this parser leaves them out.
      const expected = one.value.events.map(({ data }) => data);
      assert.deepEqual(events, expected, `in pieces of ${size}`);
    }
  });
}
