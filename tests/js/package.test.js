/** The package as it is shipped: small, without dependencies, with declarations that are true. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../static/hybrid/", import.meta.url));
const isRequired = Boolean(process.env.TEST_REQUIRE_NPX);

const files = readdirSync(root, { recursive: true }).filter((name) => name.endsWith(".js"));
const read = (name) => readFileSync(join(root, name), "utf8");

/** Runs a program of npm's; undefined where npx or the registry is not to be had. */
const npx = (t, args, options = {}) => {
  try {
    execFileSync("npx", [...args.slice(0, args.indexOf("--") + 1), args.at(args.indexOf("--") + 1), "--version"], {
      stdio: "pipe",
    });
  } catch (error) {
    if (isRequired) throw error;
    t.skip("SKIPPED: npx cannot get it here; set TEST_REQUIRE_NPX to insist");
    return undefined;
  }
  return execFileSync("npx", args, { stdio: "pipe", encoding: "utf8", ...options });
};

/** The import lines of a module: what it takes from where. */
const imports = (name) =>
  [...read(name).matchAll(/^import[^;]*?from "([^"]+)";|^export[^;]*?from "([^"]+)";/gm)].map(([, a, b]) => a ?? b);

test("no dependency: only its own files are imported", () => {
  for (const name of files) for (const from of imports(name)) assert.match(from, /^\.\.?\//, name);
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.deepEqual([manifest.dependencies, manifest.peerDependencies], [undefined, undefined]);
  assert.equal(manifest.type, "module");
  assert.equal(manifest.license, "MIT");
});

test("transports know no session, and a session no channels: imports point one way", () => {
  const layers = [
    [
      "codec",
      "codes",
      "backoff",
      "emitter",
      "environment",
      "eventstream",
      "ladder",
      "memory",
      "messagepack",
      "probe",
      "race",
      "sharing",
      "tokens",
    ],
    ["tabs/name", "tabs/tail", "tabs/pipe"],
    ["tabs/feed"],
    ["tabs/hub"],
    ["tabs/tabs"],
    ["tabs/index"],
    ["transports/http"],
    ["transports/uplink", "transports/eventsource"],
    ["transports/websocket", "transports/sse", "transports/longpoll", "outbox", "leg", "channel"],
    ["session"],
    ["client"],
    ["index"],
  ];
  const level = new Map(layers.flatMap((names, index) => names.map((name) => [`${name}.js`, index])));
  assert.deepEqual([...level.keys()].sort(), [...files].sort(), "each file has its place");
  for (const name of files) {
    for (const from of imports(name)) {
      const target = join(name, "..", from).replaceAll("\\", "/");
      assert.ok(level.get(target) < level.get(name) || level.get(target) === 0, `${name} imports ${target}`);
    }
  }
});

test("importing touches nothing: no global is read before it is needed", () => {
  for (const name of files) {
    const top = read(name).replace(/\/\*[^]*?\*\//g, "");
    assert.ok(!/^(globalThis|window|document|navigator|localStorage)\b/m.test(top), name);
  }
});

test("what tabs need is loaded by one import(), and by nothing else", () => {
  const isOfTabs = (name) => name.startsWith("tabs/");
  for (const name of files.filter((name) => !isOfTabs(name)))
    for (const from of imports(name)) assert.doesNotMatch(from, /tabs/, name);
  assert.deepEqual(
    files.filter((name) => /import\("[^"]*tabs/.test(read(name))),
    ["sharing.js"],
  );
});

test("the declarations compile, strictly, with a program that uses all of them", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "hybrid-types-"));
  try {
    const program = join(folder, "program.mts");
    writeFileSync(
      program,
      readFileSync(new URL("support/program.ts", import.meta.url), "utf8").replace("HYBRID", `${root}index.js`),
    );
    const compiler = "-y -p typescript@5 -- tsc --noEmit --strict --target es2022 --lib es2022,dom";
    const modules = "--module nodenext --moduleResolution nodenext";
    const output = npx(t, [...compiler.split(" "), ...modules.split(" "), program]);
    if (output !== undefined) assert.equal(output, "");
  } catch (error) {
    assert.fail(error.stdout || error.message);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("what is declared exists, and what exists is declared", async () => {
  const declared = read("index.d.ts");
  const { Client, HybridError } = await import("../../static/hybrid/index.js");
  const client = new Client({ url: "https://example.org/v1" });
  const channel = client.channel("a");
  const interfaceOf = (name) => declared.match(new RegExp(`(?:interface|class) ${name}\\b[^]*?\\n}`))[0];
  const members = (name) =>
    [...interfaceOf(name).matchAll(/^ {2}(?:readonly )?(\w+)[<(:?]/gm)].map(([, member]) => member);
  for (const name of members("Client")) if (name !== "constructor") assert.ok(name in client, `Client.${name}`);
  for (const name of members("Channel")) assert.ok(name in channel || name === "position", `Channel.${name}`);
  assert.deepEqual(Object.keys(client.stats), members("Stats"));
  // What channels and the session call stands behind a line that says so.
  const internal = read("client.js").slice(read("client.js").indexOf("not for applications"));
  const methods = Object.getOwnPropertyNames(Client.prototype).filter(
    (name) => !["constructor", "request"].includes(name) && !new RegExp(`^  (async )?${name}\\(`, "m").test(internal),
  );
  for (const name of methods) assert.ok(members("Client").includes(name), `Client.${name} is not declared`);
  const error = new HybridError(3403, "forbidden", "no");
  assert.deepEqual([error.number, error.name, error.message, error instanceof Error], [3403, "forbidden", "no", true]);
});
