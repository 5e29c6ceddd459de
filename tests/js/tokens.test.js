import assert from "node:assert/strict";
import { test } from "node:test";

import { Tokens } from "../../static/hybrid/tokens.js";

const setUp = () => {
  const clock = { ms: 0 };
  const asked = { count: 0 };
  const tokens = new Tokens(
    async () => `t${++asked.count}`,
    () => clock.ms,
  );
  return { clock, asked, tokens };
};

test("asked once, however many ask for it", async () => {
  const { asked, tokens } = setUp();
  assert.deepEqual(await Promise.all([tokens.get(), tokens.get(), tokens.get()]), ["t1", "t1", "t1"]);
  assert.equal(await tokens.get(), "t1");
  assert.equal(asked.count, 1);
});

test("asked again when it is over", async () => {
  const { clock, tokens } = setUp();
  await tokens.get();
  tokens.expiresIn(60);
  clock.ms = 59_999;
  assert.equal(await tokens.get(), "t1");
  clock.ms = 60_000;
  assert.equal(await tokens.get(), "t2");
  clock.ms = 1e9;
  assert.equal(await tokens.get(), "t2", "of the new one no end is known");
});

test("asked again when it is spent, but not when somebody has done so already", async () => {
  const { tokens } = setUp();
  const first = await tokens.get();
  tokens.spend(first);
  assert.equal(await tokens.get(), "t2");
  tokens.spend(first);
  assert.equal(await tokens.get(), "t2");
});

test("a provider that fails is asked again the next time", async () => {
  let fails = true;
  const tokens = new Tokens(
    () => {
      if (fails) throw new Error("signed out");
      return "t";
    },
    () => 0,
  );
  await assert.rejects(tokens.get(), /signed out/);
  fails = false;
  assert.equal(await tokens.get(), "t");
});

test("without a provider there is no token and no question", async () => {
  assert.equal(await new Tokens(undefined, () => 0).get(), "");
});
