/**
 * Draws when each thing was asked for, above, and when it came, below: a line straight down came at once, a slanted one
 * late, and one that ends half way not at all. Colours are the style sheet's, so that they follow the scheme.
 */

import { duration } from "./words.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const TOP = 11;
const BOTTOM = 59;
const TEXT = 78;
const MARGIN = 8;
const SECOND = 1_000;
/** A line that slants by more than this is drawn as late. */
const LATE_MS = 400;

/** Where things stand: milliseconds to pixels. Pure. `span`: the time shown. */
export function scaleOf(span, width) {
  const usable = Math.max(1, width - 2 * MARGIN);
  return (ms) => MARGIN + (Math.min(Math.max(ms, 0), span) / span) * usable;
}

/** The time to show: whole seconds, three at least, and all that was asked for and came. Pure. */
export function spanOf(beats, now = 0) {
  const latest = Math.max(0, now, ...beats.flatMap(({ sent, came }) => [sent, came ?? sent]));
  return Math.max(3, Math.ceil(latest / SECOND)) * SECOND;
}

/** What the drawing shows, for whoever cannot see it. Pure. */
export function describe(beats) {
  if (!beats.length) return "Nothing was asked for";
  const came = beats.filter((beat) => beat.came !== null);
  const delays = came.map((beat) => beat.came - beat.sent);
  const range = came.length
    ? `, after ${duration(Math.min(...delays))}${came.length > 1 ? ` to ${duration(Math.max(...delays))}` : ""}`
    : "";
  return `${came.length} of ${beats.length} came${range}`;
}

/** @param {SVGSVGElement} svg @param {import("./rhythm.js").Beat[]} beats in milliseconds; `waits`: it is to come late */
export function draw(svg, beats, { isOver }) {
  const width = svg.clientWidth || 300;
  const span = spanOf(beats);
  const x = scaleOf(span, width);
  const parts = [];
  const step = span > 12 * SECOND ? 5 : span > 6 * SECOND ? 2 : 1;
  for (let at = 0; at <= span; at += step * SECOND) {
    parts.push(line("tick", x(at), TOP, x(at), BOTTOM));
    parts.push(label(`${at / SECOND} s`, x(at), at === 0 ? "start" : at === span ? "end" : "middle"));
  }
  parts.push(line("lane", 0, TOP, width, TOP), line("lane", 0, BOTTOM, width, BOTTOM));
  for (const beat of beats) parts.push(beatOf(beat, x, isOver));
  if (isOver && !beats.length) parts.push(label("nothing could be asked for", width / 2, "middle", (TOP + BOTTOM) / 2 + 4));
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", describe(beats));
}

function beatOf({ sent, came, waits }, x, isOver) {
  const group = make("g", {});
  const from = x(sent);
  if (came === null) {
    if (!isOver) {
      group.append(circle("ask", from, TOP));
      return group;
    }
    const half = (TOP + BOTTOM) / 2;
    group.setAttribute("class", "is-lost");
    group.append(line("way", from, TOP, from, half), line("lost", from - 4, half - 1, from + 4, half + 7));
    group.append(line("lost", from + 4, half - 1, from - 4, half + 7), circle("ask", from, TOP));
    return group;
  }
  const to = x(came);
  if (waits) group.append(make("path", { class: "wait", d: `M${from} ${TOP}H${to}V${BOTTOM}H${from}Z` }));
  else if (came - sent > LATE_MS) group.setAttribute("class", "is-late");
  if (waits) group.append(line("way", to, TOP, to, BOTTOM));
  else group.append(line("way", from, TOP, to, BOTTOM));
  group.append(circle("ask", from, TOP), circle("dot", to, BOTTOM));
  return group;
}

function make(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

function line(kind, x1, y1, x2, y2) {
  return make("line", { class: kind, x1, y1, x2, y2 });
}

function circle(kind, cx, cy) {
  return make("circle", { class: kind, cx, cy, r: kind === "dot" ? 4 : 3.5 });
}

function label(text, x, anchor, y = TEXT) {
  const element = make("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}
