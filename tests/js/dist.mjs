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
const source = fileURLToPath(new URL("../../static/hybrid/", import.meta.url));
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
      `${source}index.js`,
      "--bundle",
      "--minify",
      "--target=es2022",
      "--format=iife",
      "--global-name=hybrid",
      "--charset=utf8",
      `--banner:js=/*! hybrid ${version} | ${license} */`,
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
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
