/**
 * One canvas that shows the last minute: lines, areas and bands over a scale, outages as shades, events as marks.
 * It is given everything anew for each painting and keeps nothing but its canvas.
 */

import { palette } from "./palette.js";

const FONT = '500 10.5px "Inter", "Inter stand-in", system-ui, sans-serif';
const GUTTER_TOP = 16;
const GUTTER_BOTTOM = 18;
const GUTTER_RIGHT = 4;
const GUTTER_GAP = 7;
const MARK_LABEL_ROOM = 44;
const MARK_LINE_ROOM = 9;

/**
 * @typedef {{at_ms: number, value: number, low?: number, high?: number, colour?: string}} Point
 * @typedef {{points: Point[], colour: string, fill?: boolean}} Series
 * @typedef {{at_ms: number, kind: "cut" | "moved" | "back" | "failed", label: string}} Mark
 */
export class TimeChart {
  #canvas;
  #context;
  #span_ms;
  #gap_ms;
  #width = 0;
  #height = 0;
  /** Where the plot begins: right of the scale's words, which no curve may cross. */
  #left = 0;

  /** `gap_ms`: points further apart than this are not joined; there was nothing in between. */
  constructor(canvas, { span_ms = 60_000, gap_ms = 1_500 } = {}) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#span_ms = span_ms;
    this.#gap_ms = gap_ms;
    new ResizeObserver(() => this.#fit()).observe(canvas);
    this.#fit();
  }

  /**
   * @param {number} now_ms the right edge
   * @param {{scale: import("./scale.js").Scale, series: Series[], marks?: Mark[],
   *   outages?: {from_ms: number, to_ms: number | null}[], span_ms?: number, cursor_ms?: number | null}} picture
   *   `span_ms`: another span from now on; `cursor_ms`: a moment to point at
   */
  draw(now_ms, { scale, series, marks = [], outages = [], span_ms = this.#span_ms, cursor_ms = null }) {
    if (!this.#width) return;
    this.#span_ms = span_ms;
    const context = this.#context;
    context.clearRect(0, 0, this.#width, this.#height);
    context.font = FONT;
    this.#left = Math.ceil(Math.max(...scale.ticks.map(({ label }) => context.measureText(label).width))) + GUTTER_GAP;
    const plotWidth = this.#width - this.#left - GUTTER_RIGHT;
    const x = (at_ms) => this.#left + (1 - (now_ms - at_ms) / this.#span_ms) * plotWidth;
    const y = (value) => GUTTER_TOP + (1 - scale.place(value)) * this.#plotHeight;
    this.#drawScale(scale, y);
    this.#drawTime();
    context.save();
    context.beginPath();
    context.rect(this.#left, 0, this.#width - this.#left, GUTTER_TOP + this.#plotHeight + 1);
    context.clip();
    this.#drawOutages(outages, now_ms, x);
    this.#drawMarks(marks.filter(({ kind }) => kind !== "back"), x);
    for (const one of series) this.#drawSeries(one, x, y);
    if (cursor_ms !== null) this.#drawCursor(x(cursor_ms));
    context.restore();
  }

  /** Which moment is drawn at a place, in CSS pixels from the canvas' left edge. */
  timeAt(left, now_ms) {
    const share = (left - this.#left) / Math.max(1, this.#width - this.#left - GUTTER_RIGHT);
    return now_ms - (1 - Math.min(1, Math.max(0, share))) * this.#span_ms;
  }

  get #plotHeight() {
    return this.#height - GUTTER_TOP - GUTTER_BOTTOM;
  }

  #fit() {
    const { clientWidth, clientHeight } = this.#canvas;
    const density = Math.min(window.devicePixelRatio || 1, 3);
    this.#width = clientWidth;
    this.#height = clientHeight;
    this.#canvas.width = Math.round(clientWidth * density);
    this.#canvas.height = Math.round(clientHeight * density);
    this.#context.setTransform(density, 0, 0, density, 0, 0);
  }

  #drawScale({ ticks }, y) {
    const context = this.#context;
    context.lineWidth = 1;
    context.strokeStyle = palette.line;
    context.fillStyle = palette["ink-faint"];
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const { value, label } of ticks) {
      const height = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(this.#left, height);
      context.lineTo(this.#width, height);
      context.stroke();
      context.fillText(label, this.#left - GUTTER_GAP, height);
    }
  }

  #drawTime() {
    const context = this.#context;
    context.fillStyle = palette["ink-faint"];
    context.textBaseline = "alphabetic";
    const height = this.#height - 3;
    context.textAlign = "left";
    context.fillText(this.#span_ms < 120_000 ? `${this.#span_ms / 1000} s ago` : `${this.#span_ms / 60_000} min ago`, this.#left, height);
    context.textAlign = "right";
    context.fillText("now", this.#width - 1, height);
  }

  #drawOutages(outages, now_ms, x) {
    const context = this.#context;
    context.fillStyle = palette.danger;
    context.globalAlpha = 0.1;
    for (const { from_ms, to_ms } of outages) {
      const left = Math.max(this.#left, x(from_ms));
      const right = x(to_ms ?? now_ms);
      if (right > left) context.fillRect(left, GUTTER_TOP, Math.max(1, right - left), this.#plotHeight);
    }
    context.globalAlpha = 1;
  }

  #drawSeries({ points, colour, fill = false }, x, y) {
    for (const run of this.#runs(points, colour)) {
      if (run.points[0].low !== undefined) this.#drawBand(run, x, y);
      if (fill) this.#drawArea(run, x, y);
      this.#drawLine(run, x, y);
    }
    const last = points.at(-1);
    if (last) this.#drawDot(x(last.at_ms), y(last.value), last.colour ?? colour);
  }

  /** Stretches of one colour without a hole in time; neighbours of two colours share their border point. */
  #runs(points, colour) {
    const runs = [];
    let run = null;
    let previous = null;
    for (const point of points) {
      const ownColour = point.colour ?? colour;
      const isFar = previous && point.at_ms - previous.at_ms > this.#gap_ms;
      if (!run || isFar || run.colour !== ownColour) {
        const shared = run && !isFar ? [previous] : [];
        run = { colour: ownColour, points: shared };
        runs.push(run);
      }
      run.points.push(point);
      previous = point;
    }
    return runs;
  }

  #trace(points, x, y) {
    const context = this.#context;
    points.forEach((point, index) => {
      if (index) context.lineTo(x(point.at_ms), y(point.value));
      else context.moveTo(x(point.at_ms), y(point.value));
    });
  }

  #drawLine({ points, colour }, x, y) {
    const context = this.#context;
    context.strokeStyle = colour;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.lineCap = "round";
    context.beginPath();
    this.#trace(points, x, y);
    context.stroke();
  }

  #drawArea({ points, colour }, x, y) {
    const context = this.#context;
    const floor = GUTTER_TOP + this.#plotHeight;
    const shade = context.createLinearGradient(0, GUTTER_TOP, 0, floor);
    shade.addColorStop(0, colour);
    // Of the same hue: canvas mixes "transparent" as black without opacity, and the shade turns grey.
    // The palette is all #rrggbb, so two more digits are its opacity.
    shade.addColorStop(1, `${colour}00`);
    context.fillStyle = shade;
    context.globalAlpha = 0.22;
    context.beginPath();
    this.#trace(points, x, y);
    context.lineTo(x(points.at(-1).at_ms), floor);
    context.lineTo(x(points[0].at_ms), floor);
    context.fill();
    context.globalAlpha = 1;
  }

  #drawBand({ points, colour }, x, y) {
    const context = this.#context;
    context.fillStyle = colour;
    context.globalAlpha = 0.18;
    context.beginPath();
    for (const point of points) context.lineTo(x(point.at_ms), y(point.high));
    for (const point of points.toReversed()) context.lineTo(x(point.at_ms), y(point.low));
    context.fill();
    context.globalAlpha = 1;
  }

  #drawCursor(left) {
    const context = this.#context;
    context.strokeStyle = palette["ink-faint"];
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(left) + 0.5, GUTTER_TOP);
    context.lineTo(Math.round(left) + 0.5, GUTTER_TOP + this.#plotHeight);
    context.stroke();
  }

  #drawDot(left, top, colour) {
    const context = this.#context;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(Math.min(left, this.#width - 3.5), top, 3, 0, 2 * Math.PI);
    context.fill();
  }

  /**
   * Marks stand in the lane above the plot. One with room around it also has a line through the plot, and its words;
   * in a crowd lines would hide the curve, which is what they are there to explain.
   */
  #drawMarks(marks, x) {
    const context = this.#context;
    context.textBaseline = "top";
    context.lineWidth = 1;
    let free = -Infinity;
    marks.forEach(({ at_ms, kind, label }, index) => {
      const left = Math.round(x(at_ms)) + 0.5;
      if (left < this.#left) return;
      const colour = kind === "cut" || kind === "failed" ? palette.danger : palette["ink-soft"];
      const distance = (other) => (other ? Math.abs(x(other.at_ms) - left) : Infinity);
      const isCrowded = Math.min(distance(marks[index - 1]), distance(marks[index + 1])) < MARK_LINE_ROOM;
      const end = isCrowded ? GUTTER_TOP + 4 : GUTTER_TOP + this.#plotHeight;
      context.strokeStyle = colour;
      context.globalAlpha = 0.8;
      context.beginPath();
      context.moveTo(left, GUTTER_TOP - 3);
      context.lineTo(left, end);
      context.stroke();
      context.globalAlpha = 1;
      const width = context.measureText(label).width;
      const start = Math.min(left, this.#width - width);
      if (start < free) return;
      context.fillStyle = colour;
      context.textAlign = "left";
      context.fillText(label, start, 0);
      free = start + Math.max(MARK_LABEL_ROOM, width + 6);
    });
  }
}
