import assert from "node:assert/strict";
import { test } from "node:test";

import { byteLength, decode, encode } from "../../static/hybrid/codec.js";

test("a frame carries one object", () => {
  assert.deepEqual(decode('{"heartbeat":{"at_ms":1}}'), [{ heartbeat: { at_ms: 1 } }]);
});

test("a frame carries several objects, one per line, in order", () => {
  assert.deepEqual(decode('{"a":1}\n{"b":2}\r\n\n{"c":"x\\ny"}\n'), [{ a: 1 }, { b: 2 }, { c: "x\ny" }]);
});

test("what is not an object is refused", () => {
  for (const text of ["1", "null", '"a"', "[]", "{", '{"a":1} {"b":2}', '{"a":1}\nnull']) {
    assert.throws(() => decode(text), SyntaxError, text);
  }
});

test("keys chosen by the server stay plain data", () => {
  const [value] = decode('{"__proto__":{"polluted":true}}');
  assert.equal({}.polluted, undefined);
  assert.equal(value.polluted, undefined);
});

test("sizes are counted in bytes, as the server counts them", () => {
  assert.equal(byteLength(encode({ a: "é€😀" })), 8 + 2 + 3 + 4);
});
