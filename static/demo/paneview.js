/** Shows one pane: clones the page's template, fills it with text, paints its chart, and hands on what is pressed. */

import { count, duration, durationText, shortCount } from "./format.js";
import { palette } from "./palette.js";
import { logScale } from "./scale.js";
import { setText } from "./text.js";
import { TimeChart } from "./timechart.js";
import { TRANSPORTS, transportName, transportShort } from "./transports.js";

const SCALE = logScale(0.4, 2_500, (value) => durationText(value).replace(".0", ""));
const SLICE_MS = 500;
const FAULTS = ["lost", "repeated", "reordered"];
const STATE_WORDS = { connected: "live", connecting: "connecting", disconnected: "offline" };

export class PaneView {
  #pane;
  #root;
  #chart;
  #parts = {};
  #channels;

  /** `channels`: [name, word] of each to show an offset for. */
  constructor({ pane, template, host, channels }) {
    this.#pane = pane;
    this.#channels = channels;
    const root = template.content.firstElementChild.cloneNode(true);
    root.dataset.pane = pane.id;
    for (const part of root.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    const titleId = `pane-${pane.id}`;
    this.#parts.title.id = titleId;
    this.#parts.title.textContent = pane.title;
    root.setAttribute("aria-labelledby", titleId);
    this.#root = root;
    this.#offerMoves();
    this.#listOffsets();
    this.#parts.cut.setAttribute("aria-label", `Cut the connection of ${pane.title}`);
    this.#parts.cut.addEventListener("click", () => pane.cut());
    host.append(root);
    this.#chart = new TimeChart(this.#parts.chart);
  }

  /** Brings words and figures up to date; a few times a second is enough for the eye. */
  refresh(now_ms) {
    const { state, transport, ledger, latency, healed } = this.#pane;
    const parts = this.#parts;
    this.#pane.forgetOld();
    this.#root.dataset.state = state;
    this.#root.dataset.transport = transport ?? "";
    setText(parts.state, STATE_WORDS[state] ?? state);
    setText(parts.badge, transport ? transportName(transport) : "no connection");
    const [figure, unit] = duration(latency.last_ms);
    setText(parts.latency, figure);
    setText(parts.unit, unit);
    setText(parts.median, durationText(latency.median_ms(now_ms)));
    setText(parts.news, this.#pane.news);
    const totals = ledger.totals();
    setText(parts.received, shortCount(totals.received));
    parts.received.dataset.exact = totals.received;
    for (const fault of FAULTS) {
      setText(parts[fault], shortCount(totals[fault]));
      parts[fault].parentElement.classList.toggle("is-bad", totals[fault] > 0);
    }
    setText(parts.trail, trailText(this.#pane, totals));
    Object.assign(parts.trail.dataset, healed);
    for (const [name] of this.#channels) {
      const { offset } = ledger.channel(name);
      setText(parts[`offset:${name}`], offset < 0 ? "–" : count(offset));
    }
    for (const button of parts.moves.children) {
      button.setAttribute("aria-pressed", String(button.value === transport));
      button.disabled = state !== "connected";
    }
    parts.cut.disabled = state !== "connected";
  }

  /** Says in words what the chart shows, for people who cannot see it; seldom, nobody can follow every change. */
  describe(now_ms) {
    const { latency, transport } = this.#pane;
    const carried = transport ? `carried by ${transportName(transport)}` : "without a connection";
    const text = `Latency of the last minute: median ${durationText(latency.median_ms(now_ms))}, ${carried}.`;
    this.#parts.chart.setAttribute("aria-label", text);
  }

  paint(now_ms) {
    const points = this.#pane.latency.slices(now_ms, SLICE_MS).map((slice) => ({
      at_ms: Math.min(slice.at_ms, now_ms),
      value: slice.middle_ms,
      low: slice.low_ms,
      high: slice.high_ms,
      colour: palette[slice.transport],
    }));
    const { marks, outages } = this.#pane;
    this.#chart.draw(now_ms, { scale: SCALE, series: [{ points, colour: palette.ink }], marks, outages });
  }

  #offerMoves() {
    this.#parts.moves.setAttribute("aria-label", `Move ${this.#pane.title} to`);
    for (const transport of TRANSPORTS) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = transport;
      button.textContent = transportShort(transport);
      button.setAttribute("aria-label", `${transportShort(transport)}: ${transportName(transport)}`);
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => this.#pane.moveTo(transport));
      this.#parts.moves.append(button);
    }
  }

  #listOffsets() {
    for (const [name, word] of this.#channels) {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const offset = document.createElement("dd");
      term.textContent = word;
      offset.textContent = "–";
      offset.dataset.channel = name;
      row.append(term, offset);
      this.#parts.offsets.append(row);
      this.#parts[`offset:${name}`] = offset;
    }
  }
}

/** What the session has been through, and what the client put right on the way: facts, but no faults of the result. */
function trailText({ returns, moves, healed: { gaps, dropped } }, { resets, forked }) {
  const facts = [
    returns && `back ${shortCount(returns)}×`,
    moves && `moved ${shortCount(moves)}×`,
    gaps && counted(gaps, "gap", "healed"),
    dropped && counted(dropped, "repeat", "dropped"),
    resets && counted(resets, "reset", "told"),
    forked && counted(forked, "fork", "met"),
  ];
  return facts.filter(Boolean).join(" · ");
}

/** counted(2, "gap", "healed") -> "2 gaps healed" */
function counted(figure, noun, participle) {
  return `${shortCount(figure)} ${noun}${figure === 1 ? "" : "s"} ${participle}`;
}
