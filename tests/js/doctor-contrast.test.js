import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

/** Text must stand out by 4.5 to 1 (WCAG 2.2, 1.4.3, level AA); demo/contrast.test.js sees to the colours of both pages. */
const read = (name) => readFileSync(new URL(`../../static/${name}`, import.meta.url), "utf8");

function scheme(css, after) {
  const start = css.indexOf(":root {", css.indexOf(after));
  const block = css.slice(start, css.indexOf("}", start));
  return [...block.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, colour]) => [name, colour]);
}

function luminance(colour) {
  const [red, green, blue] = [1, 3, 5]
    .map((start) => parseInt(colour.slice(start, start + 2), 16) / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const PAIRS = [
  ["badly", "badly-well"],
  ["badly", "card"],
  ["good", "good-well"],
  ["danger", "danger-well"],
  ["ink-soft", "well"],
  ["ink-faint", "well"],
];

for (const after of [":root", "prefers-color-scheme: dark"]) {
  test(`states can be read: ${after}`, () => {
    const colours = new Map(["demo.css", "doctor.css"].flatMap((name) => scheme(read(name), after)));
    for (const [text, ground] of PAIRS) {
      const ratio = contrast(colours.get(text), colours.get(ground));
      assert.ok(ratio >= 4.5, `--${text} on --${ground}: ${ratio.toFixed(2)}`);
    }
  });
}
