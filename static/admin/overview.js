/** The first part: what there is now, in figures, and how it went in the last five minutes, in charts. */

import { steadyNow } from "../demo/clock.js";
import { count, durationText, shortCount } from "../demo/format.js";
import { palette } from "../demo/palette.js";
import { linearScale, roundUp } from "../demo/scale.js";
import { setText } from "../demo/text.js";
import { TimeChart } from "../demo/timechart.js";
import { make, partsOf } from "./dom.js";
import { TRANSPORTS } from "./rates.js";
import { perSecond, span } from "./words.js";

export const SPAN_MS = 300_000;
/** A chart of five minutes that are not there yet shows nothing but its edge: it grows with what is known. */
const SPANS_MS = [60_000, 120_000, SPAN_MS];
const GAP_MS = 15_000;
const LAG_LEAST_MS = 20;
const ALL = "";

const SHORT = { websocket: "WebSocket", sse: "SSE", longpoll: "Long polling" };

const TILES = [
  ["Connections", ({ connections }) => count(connections)],
  ["Sessions", ({ sessions }) => count(sessions)],
  ["Subscriptions", ({ subscriptions }) => count(subscriptions)],
  ["Published", ({ published }) => `${perSecond(published)}/s`],
  ["Delivered", ({ delivered }) => `${perSecond(delivered)}/s`],
  ["Slow readers", ({ slow }) => count(slow), ({ slow }) => slow > 0],
  ["Refused", ({ refused }) => `${perSecond(refused)}/s`, ({ refused }) => refused > 0],
  ["Nodes", ({ nodes }) => count(nodes)],
];

/** `least` is the smallest top of the scale: a chart of next to nothing must not look like one of much. */
const CHARTS = [
  {
    title: "Connections by transport",
    least: 10,
    label: shortCount,
    series: TRANSPORTS.map((name) => ({ name, title: SHORT[name], colour: name, text: count })),
  },
  { title: "Publications per second", least: 10, label: shortCount, series: [{ name: "published", title: "accepted", colour: "cpu", text: perSecond, fill: true }] },
  { title: "Deliveries per second", least: 10, label: shortCount, series: [{ name: "delivered", title: "written to streams", colour: "inbound", text: perSecond, fill: true }] },
  { title: "Event loop lag", least: LAG_LEAST_MS, label: (ms) => `${Math.round(ms)} ms`, series: [{ name: "lag_ms", title: "worst of two seconds", colour: "memory", text: durationText, fill: true }] },
];

export class Overview {
  #rates;
  #parts;
  #tiles;
  #charts;
  #nodes = "";
  #isShown = false;
  /** Where somebody points in a chart, in pixels from its left edge: all charts then tell of that moment. */
  #pointed = null;

  constructor({ root, rates }) {
    this.#rates = rates;
    this.#parts = partsOf(root);
    this.#tiles = TILES.map(([title, text, isBad = () => false]) => {
      const value = make("dd", {}, "–");
      const tile = make("div.tile", {}, make("dt", {}, title), value);
      this.#parts("tiles").append(tile);
      return { tile, value, text, isBad };
    });
    this.#charts = CHARTS.map((chart) => this.#chart(chart));
    this.#parts("node").addEventListener("change", () => this.refresh());
  }

  shown(isShown) {
    this.#isShown = isShown;
    if (isShown) this.refresh();
  }

  /** There is a new answer. */
  take({ nodes, unanswered = [] }) {
    this.#offer(nodes.map(({ node }) => node));
    const problem = this.#parts("unanswered");
    setText(problem, unanswered.length ? `Without ${unanswered.join(" and ")}: no answer in time.` : "");
    problem.hidden = !unanswered.length;
    this.refresh();
  }

  refresh() {
    const now = this.#rates.now(this.#node);
    for (const { tile, value, text, isBad } of this.#tiles) {
      setText(value, now ? text(now) : "–");
      tile.classList.toggle("is-bad", now !== null && isBad(now));
    }
    const at = this.#cursor(steadyNow());
    const then = at ? at.figures : now;
    for (const { series, figures, when } of this.#charts) {
      series.forEach(({ name, text }, place) => setText(figures[place], (then?.[name] ?? null) === null ? "–" : text(then[name])));
      setText(when, at ? `${span((steadyNow() - at.at_ms) / 1000)} ago` : "");
    }
  }

  /** Draws the charts as they are at this moment; called a few times a second while the page is seen. */
  paint(now_ms) {
    if (!this.#isShown) return;
    const known_ms = now_ms - (this.#rates.samples[0]?.at_ms ?? now_ms);
    const span_ms = SPANS_MS.find((one) => one >= known_ms) ?? SPAN_MS;
    const cursor_ms = this.#cursor(now_ms)?.at_ms ?? null;
    for (const { chart, series, least, label } of this.#charts) {
      const drawn = series.map(({ name, colour, fill = false }) => ({ points: this.#rates.points(name, this.#node), colour: palette[colour], fill }));
      const largest = drawn.reduce((most, { points }) => points.reduce((more, { value }) => Math.max(more, value), most), least);
      chart.draw(now_ms, { scale: linearScale(roundUp(largest), label), series: drawn, span_ms, cursor_ms });
    }
  }

  /** For those who do not see the charts: in words, now and then. */
  describe() {
    for (const { canvas, title, series } of this.#charts) {
      const told = series.map(({ name, title: what, text }) => {
        const values = this.#rates.points(name, this.#node).map(({ value }) => value);
        return values.length ? `${what} ${text(values.at(-1))}, at most ${text(Math.max(...values))}` : `${what} not known yet`;
      });
      canvas.setAttribute("aria-label", `${title}, of the last five minutes: ${told.join("; ")}`);
    }
  }

  #cursor(now_ms) {
    return this.#pointed && this.#rates.at(this.#pointed.chart.timeAt(this.#pointed.left, now_ms), this.#node);
  }

  #point(pointed) {
    this.#pointed = pointed;
    this.refresh();
    this.paint(steadyNow());
  }

  get #node() {
    return this.#parts("node").value;
  }

  #offer(nodes) {
    const names = nodes.join(" ");
    if (names === this.#nodes) return;
    this.#nodes = names;
    const select = this.#parts("node");
    const chosen = nodes.includes(select.value) ? select.value : ALL;
    const options = [make("option", { value: ALL }, "all together"), ...nodes.map((node) => make("option", { value: node }, node))];
    select.replaceChildren(...options);
    select.value = chosen;
    select.parentElement.hidden = nodes.length < 2;
  }

  #chart({ title, series, least, label }) {
    const canvas = make("canvas", { role: "img", "aria-label": title });
    const figures = series.map(() => make("b", {}, "–"));
    const when = make("small");
    const legend = series.map(({ title: what, colour }, place) => make("span.flow", { data: { hue: colour } }, make("span", {}, what), figures[place]));
    const figure = make("figure.card.chart", {}, make("figcaption", {}, make("h3", {}, title, " ", when), make("p.legend", {}, ...legend)), canvas);
    this.#parts("charts").append(figure);
    const chart = new TimeChart(canvas, { span_ms: SPAN_MS, gap_ms: GAP_MS });
    for (const kind of ["pointerdown", "pointermove"]) canvas.addEventListener(kind, ({ offsetX: left }) => this.#point({ chart, left }));
    for (const kind of ["pointerleave", "pointercancel"]) canvas.addEventListener(kind, () => this.#point(null));
    return { chart, canvas, title, series, figures, when, least, label };
  }
}
