/**
 * Makes static/hybrid.min.js, the client as one file for a script tag, and static/hybrid.tabs.min.js, which the former
 * loads from beside itself where tabs share a connection: `node tests/js/dist.mjs`, or with `--check` tells whether those
 * that are there are what their sources give now. Needs npx, which gets the minifiers.
 *
 * Exit status: 0, or 1 for a file that is stale, or 3 where the minifier cannot be had.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// To the digit: another version may write the same in other words.
const BUNDLER = "esbuild@0.28.2";
const MINIFIER = "terser@5.51.4"; // of what a bundler leaves, 3 % more
// What no application and no wire ever sees: shortened, since a name like `isAttached` costs bytes at each use.
const INTERNAL = `
  arm ask beats better broke canContinue check comesBack command context current detached ended environment expiresIn
  failAll failed fault feed firstSentMs forget fromWire granted hooks host idleMs intervalMs isAlone isAsWanted
  isAttached isClosed isDemoted isGoodbye isInDoubt isOutOfStep isOwn isPending isPolled isReady isSupported isWanted isWoken keep
  ladder lastSeq leg listed lived livedMs maximum memory module modules move names newSession onAlive onAttached
  onDoubt onEnd onEvent onFailed onFailure onIdle onLeg onLost onNewSession onPush onReady onStopped onSubscribed
  order patienceMs pin prepare probationMs provider ready readyMs reattach receive reconcile refuse renew resolve
  sentMs settle sound spend start startAt startedMs stop takenMs timer tokens use waitMs wasWanted why worked`
  .trim()
  .split(/\s+/);
const source = fileURLToPath(new URL("../../static/hybrid/", import.meta.url));
const TABS = "./tabs/index.js";
const EVENTSOURCE = "./eventsource.js";
const ENTRY = 'import { Client, HybridError } from "./index.js"; globalThis.hybrid = { Client, HybridError };';
const { version, license } = JSON.parse(readFileSync(`${source}package.json`, "utf8"));

const npx = (program, input, ...options) =>
  execFileSync("npx", ["-y", "-p", program, "--", program.split("@")[0], ...options], {
    input,
    cwd: source,
    encoding: "utf8",
  });

/** Names that both files use are shortened alike: `names` is where the first build leaves them for the second. */
const bundle = (entry, names, ...options) => {
  const bundled = npx(
    BUNDLER,
    entry,
    "--bundle",
    "--minify",
    "--target=es2022",
    "--format=esm", // an iife's would not leave `import()` alone
    "--charset=utf8",
    "--external:./eventsource.js",
    `--mangle-props=^(${INTERNAL.join("|")})$`,
    `--mangle-cache=${names}`,
    ...options,
  );
  const minified = npx(MINIFIER, bundled, "--compress", "passes=3,ecma=2022", "--mangle");
  return `/*! hybrid ${version} | ${license} */\n${minified}`;
};

/** A script's `import()` is resolved against the script, not against the page. */
const main = (names) => {
  // Smaller than a module's namespace under a global name: nobody enumerates or replaces its getters.
  const made = bundle(ENTRY, names, `--external:${TABS}`, "--banner:js=(() => {", "--footer:js=})();");
  const parts = made.split(`import("${TABS}")`);
  if (parts.length !== 2) throw new Error(`import("${TABS}") should be there once`);
  return parts
    .join('import("./hybrid.tabs.min.js")')
    .replace(`import("${EVENTSOURCE}")`, 'import("./hybrid.eventsource.min.js")');
};

const tabs = (names) => bundle(`export * from "${TABS}";`, names);
const eventsource = (names) => bundle('export * from "./transports/eventsource.js";', names);

const folder = mkdtempSync(join(tmpdir(), "hybrid-dist-"));
let made;
try {
  const names = join(folder, "names.json");
  made = {
    "hybrid.min.js": main(names),
    "hybrid.tabs.min.js": tabs(names),
    "hybrid.eventsource.min.js": eventsource(names),
  };
} catch (error) {
  if (!("status" in error)) throw error;
  console.error(`${BUNDLER} or ${MINIFIER} cannot be had here: ${String(error.stderr || error.message).trim()}`);
  process.exitCode = 3;
} finally {
  rmSync(folder, { recursive: true });
}
for (const [name, text] of Object.entries(made ?? {})) {
  const target = fileURLToPath(new URL(`../../static/${name}`, import.meta.url));
  if (!process.argv.includes("--check")) writeFileSync(target, text);
  else if (readFileSync(target, "utf8") !== text) {
    console.error(`static/${name} is not what its sources give now; run: make js`);
    process.exitCode = 1;
  }
}
