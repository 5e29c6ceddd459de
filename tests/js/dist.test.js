/** The client as one file for a script tag: what its sources give, small, and working without modules. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
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

test("so does what stands in for a streaming fetch", () => {
  const eventsource = readFileSync(new URL("../../static/hybrid.eventsource.min.js", import.meta.url), "utf8");
  assert.ok(eventsource.startsWith(`/*! hybrid ${manifest.version} | ${manifest.license} */\n`));
  assert.equal(text.match(/import\("[^"]*eventsource[^"]*"\)/g).join(), 'import("./hybrid.eventsource.min.js")');
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

test("where fetch cannot stream it loads what lies beside it, and both call things by the same short names", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "hybrid-dist-test-"));
  const { ReadableStream } = globalThis;
  t.after(() => {
    rmSync(folder, { recursive: true });
    delete globalThis.hybrid;
    delete globalThis.EventSource;
    globalThis.ReadableStream = ReadableStream;
  });
  // As a browser has it: files beside each other, what is imported is a module whatever its name.
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
  for (const name of ["hybrid.min.js", "hybrid.eventsource.min.js"])
    copyFileSync(new URL(`../../static/${name}`, import.meta.url), join(folder, name));

  const requests = [];
  const answer = async (url, { body }) => {
    requests.push({ url, ...JSON.parse(body) });
    return { ok: true, json: async () => ({ ticket: "a/b" }) }; // a Response of this platform needs its streams
  };
  delete globalThis.ReadableStream;
  const seen = [];
  const attached = new Promise((resolve, reject) => {
    globalThis.EventSource = class {
      constructor(url) {
        seen.push(url);
        const { nonce, attempt } = requests[0].attach;
        const push = { attached: { session: "s1", nonce, attempt, heartbeat_s: 25 } };
        queueMicrotask(() => this.onmessage({ data: JSON.stringify(push) }));
      }

      close() {
        seen.push("closed");
      }
    };
    import(pathToFileURL(join(folder, "hybrid.min.js"))).then(() => {
      const client = new globalThis.hybrid.Client({
        url: "https://example.org/v1",
        transports: ["sse"],
        environment: { fetch: answer },
      });
      client.on("leg", ({ event, reason }) => {
        if (event === "attached") resolve(client);
        if (event === "lost") reject(new Error(reason));
      });
      client.connect();
    }, reject);
  });
  const client = await attached;
  client.disconnect();
  assert.equal(requests[0].url, "https://example.org/v1/ticket");
  assert.equal(requests[0].purpose, "session");
  assert.equal(requests[0].attach.method, "attach");
  assert.deepEqual(seen, ["https://example.org/v1/stream?ticket=a%2Fb", "closed"]);
});
