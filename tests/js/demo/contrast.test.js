import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

/** Text must stand out by 4.5 to 1, parts of controls and of charts by 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11, level AA). */
const css = readFileSync(new URL("../../../static/demo.css", import.meta.url), "utf8");

const TEXT = ["ink", "ink-soft", "ink-faint", "websocket", "sse", "longpoll", "danger", "good", "cpu", "memory", "inbound"];
const SHAPES = ["control", "outbound", "focus"];
const GROUNDS = ["card", "paper", "well"];

function scheme(after) {
  const start = css.indexOf(":root {", css.indexOf(after));
  const block = css.slice(start, css.indexOf("}", start));
  return new Map([...block.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, colour]) => [name, colour]));
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

/** `share` of `over` on `under`, as color-mix does in sRGB. */
function mix(over, under, share) {
  const part = (colour, start) => parseInt(colour.slice(start, start + 2), 16);
  const mixed = [1, 3, 5].map((start) => Math.round(part(over, start) * share + part(under, start) * (1 - share)));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

for (const [name, after] of [["light", ":root"], ["dark", "prefers-color-scheme: dark"]]) {
  const colours = scheme(after);
  const colour = (key) => colours.get(key) ?? assert.fail(`no --${key} in the ${name} scheme`);

  test(`${name}: every text can be read on every ground`, () => {
    for (const text of TEXT) {
      for (const ground of GROUNDS) {
        const ratio = contrast(colour(text), colour(ground));
        assert.ok(ratio >= 4.5, `--${text} on --${ground}: ${ratio.toFixed(2)}`);
      }
    }
  });

  test(`${name}: shapes that mean something can be seen`, () => {
    for (const shape of SHAPES) {
      const ratio = contrast(colour(shape), colour("card"));
      assert.ok(ratio >= 3, `--${shape}: ${ratio.toFixed(2)}`);
    }
  });

  test(`${name}: badges, main buttons and pressed danger buttons can be read`, () => {
    for (const hue of ["websocket", "sse", "longpoll", "ink-faint"]) {
      const ratio = contrast(colour(hue), mix(colour(hue), colour("card"), 0.09));
      assert.ok(ratio >= 4.5, `badge of --${hue}: ${ratio.toFixed(2)}`);
    }
    assert.ok(contrast(colour("paper"), colour("ink")) >= 4.5);
    assert.ok(contrast(colour("danger"), colour("danger-well")) >= 4.5);
  });
}
