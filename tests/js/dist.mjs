/**
 * Makes static/hybrid.min.js, the client as one file for a script tag: `node tests/js/dist.mjs`, or with `--check` tells
 * whether the one that is there is what its sources give now. Needs npx, which gets the minifier.
 *
 * Exit status: 0, or 1 for a file that is stale, or 3 where the minifier cannot be had.
 */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const MINIFIER = "esbuild@0.28.2"; // to the digit: another version may write the same in other words
// What no application and no wire ever sees: shortened, since a name like `isAttached` costs bytes at each use.
const INTERNAL = `
  ask beats better broke canContinue check comesBack command context current detached ended environment expiresIn
  failAll failed fault feed firstSentMs forget fromWire granted hooks host idleMs intervalMs isAlone isAsWanted
  isAttached isGoodbye isInDoubt isOutOfStep isOwn isPending isPolled isReady isSupported isWanted isWoken keep
  ladder lastSeq leg listed lived livedMs maximum memory module modules move names newSession onAlive onAttached
  onDoubt onEnd onEvent onFailed onFailure onIdle onLeg onLost onNewSession onPush onReady onStopped onSubscribed
  order patienceMs pin prepare probationMs provider ready readyMs reattach receive reconcile refuse renew resolve
  sentMs settle spend start startAt startedMs stop takenMs timer tokens use wasWanted why worked`
  .trim()
  .split(/\s+/);
const source = fileURLToPath(new URL("../../static/hybrid/", import.meta.url));
const ENTRY = 'import { Client, HybridError } from "./index.js"; globalThis.hybrid = { Client, HybridError };';
const target = fileURLToPath(new URL("../../static/hybrid.min.js", import.meta.url));
const { version, license } = JSON.parse(readFileSync(`${source}package.json`, "utf8"));

/** A page without modules uses `hybrid.Client`. */
export const build = () =>
  execFileSync(
    "npx",
    [
      "-y",
      "-p",
      MINIFIER,
      "--",
      "esbuild",
      "--bundle",
      "--minify",
      "--target=es2022",
      "--format=esm", // an iife's would not leave `import()` alone
      "--charset=utf8",
      "--external:./eventsource.js",
      `--mangle-props=^(${INTERNAL.join("|")})$`,
      `--banner:js=/*! hybrid ${version} | ${license} */\n(() => {`,
      "--footer:js=})();",
    ],
    // Smaller than a module's namespace under a global name: nobody enumerates or replaces its getters.
    { input: ENTRY, cwd: source, encoding: "utf8" },
  );

let made;
try {
  made = build();
} catch (error) {
  console.error(`${MINIFIER} cannot be had here: ${String(error.stderr || error.message).trim()}`);
  process.exit(3);
}
if (!process.argv.includes("--check")) writeFileSync(target, made);
else if (readFileSync(target, "utf8") !== made) {
  console.error("static/hybrid.min.js is not what its sources give now; run: make js");
  process.exit(1);
}
