/** The client as one file for a script tag: what its sources give, small, and working without modules. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { gzipSync } from "node:zlib";

const SIZE_MAX_BYTES = 10_000;
const TABS_SIZE_MAX_BYTES = 7_000;
const text = readFileSync(new URL("../../static/hybrid.min.js", import.meta.url), "utf8");
const manifest = JSON.parse(readFileSync(new URL("../../static/hybrid/package.json", import.meta.url), "utf8"));

test("it is what its sources give now", (t) => {
  const program = fileURLToPath(new URL("dist.mjs", import.meta.url));
  const { status, stderr } = spawnSync(process.execPath, [program, "--check"], { encoding: "utf8" });
  if (status === 3 && !process.env.TEST_REQUIRE_NPX) return t.skip(`SKIPPED: ${stderr}`);
  assert.equal(status, 0, stderr);
});

test(`it tells its version, and is below ${SIZE_MAX_BYTES} bytes gzipped`, () => {
  assert.ok(text.startsWith(`/*! hybrid ${manifest.version} | ${manifest.license} */\n`));
  assert.ok(gzipSync(text, { level: 9 }).length < SIZE_MAX_BYTES);
});

test("what tabs need lies beside it, of the same version", () => {
  const tabs = readFileSync(new URL("../../static/hybrid.tabs.min.js", import.meta.url), "utf8");
  assert.ok(tabs.startsWith(`/*! hybrid ${manifest.version} | ${manifest.license} */\n`));
  assert.ok(gzipSync(tabs, { level: 9 }).length < TABS_SIZE_MAX_BYTES);
  assert.equal(text.match(/import\("[^"]*tabs[^"]*"\)/g).join(), 'import("./hybrid.tabs.min.js")');
});

test("a page without modules has it as `hybrid`, and nothing else of it", async () => {
  const page = createContext({ URL, TextEncoder, setTimeout, clearTimeout, crypto, AbortController });
  const before = Object.keys(page);
  runInContext(text, page);
  assert.deepEqual(
    Object.keys(page).filter((name) => !before.includes(name)),
    ["hybrid"],
  );
  const client = new page.hybrid.Client({ url: "https://example.org/v1" });
  assert.equal(client.state, "disconnected");
  assert.equal(client.channel("chat:lobby").name, "chat:lobby");
  assert.throws(() => client.channel("a*"), { number: 3400 });
  const { HybridError } = page.hybrid;
  assert.equal(new HybridError(3403, "forbidden", "no").number, 3403);
});
