import assert from "node:assert/strict";
import { test } from "node:test";

import { Emitter } from "../../static/hybrid/emitter.js";

test("listeners hear what is said until they are taken off", () => {
  const emitter = new Emitter();
  const heard = [];
  const off = emitter.on("a", (value) => heard.push(["first", value]));
  emitter.on("a", (value) => heard.push(["second", value]));
  emitter.emit("a", 1);
  off();
  emitter.emit("a", 2);
  emitter.emit("b", 3);
  assert.deepEqual(heard, [
    ["first", 1],
    ["second", 1],
    ["second", 2],
  ]);
});

test("events may be named as anything", () => {
  const emitter = new Emitter();
  const heard = [];
  for (const name of ["__proto__", "constructor"]) {
    emitter.emit(name, 0);
    emitter.on(name, () => heard.push(name));
    emitter.emit(name, 1);
  }
  assert.deepEqual(heard, ["__proto__", "constructor"]);
});

test("a listener that throws does not keep the others from hearing, and its error is not swallowed", async () => {
  const emitter = new Emitter();
  const heard = [];
  const uncaught = [];
  const previous = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => uncaught.push(error.message));
  try {
    emitter.on("a", () => {
      throw new Error("mine");
    });
    emitter.on("a", () => heard.push("other"));
    emitter.emit("a");
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    for (const listener of previous) process.on("uncaughtException", listener);
  }
  assert.deepEqual(heard, ["other"]);
  assert.deepEqual(uncaught, ["mine"]);
});
