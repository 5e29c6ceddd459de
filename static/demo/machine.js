/** The machine that serves this page, drawn from three channels as they come: processor, memory, network. */

import { byteRate, memorySize, percent } from "./format.js";
import { palette } from "./palette.js";
import { linearScale, roundUp } from "./scale.js";
import { setText } from "./text.js";
import { TimeChart } from "./timechart.js";

const SPAN_MS = 60_000;
const POINTS_MAX = 1_000;
const PERCENT = linearScale(100, percent);
const NETWORK_LEAST = 10_000;
const CORES_SHOWN_MAX = 32;

/** Figures over time from one channel: [{at_ms, value}] of the last minute, by device time, ascending. */
class Track {
  points = [];

  add(at_ms, value) {
    const last_ms = this.points.at(-1)?.at_ms ?? -Infinity;
    if (!Number.isFinite(value) || at_ms < last_ms) return;
    this.points.push({ at_ms, value });
    const oldest = at_ms - SPAN_MS - 2_000;
    while (this.points.length > POINTS_MAX || this.points[0].at_ms < oldest) this.points.shift();
  }

  get largest() {
    return this.points.reduce((largest, { value }) => Math.max(largest, value), 0);
  }
}

export class Machine {
  #parts = {};
  #clock;
  #charts = {};
  #tracks = { cpu: new Track(), memory: new Track(), inbound: new Track(), outbound: new Track() };
  #latest = {};
  #readers;

  /** @param {Record<string, "cpu" | "memory" | "network">} channels name -> what it tells */
  constructor({ root, clock, channels }) {
    this.#clock = clock;
    for (const part of root.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    for (const name of ["cpu", "memory", "network"]) {
      this.#charts[name] = new TimeChart(this.#parts[`${name}-chart`], { span_ms: SPAN_MS, gap_ms: 5_000 });
    }
    const read = {
      cpu: (data, at_ms) => this.#tracks.cpu.add(at_ms, data.percent),
      memory: (data, at_ms) => this.#tracks.memory.add(at_ms, data.percent),
      network: (data, at_ms) => {
        this.#tracks.inbound.add(at_ms, data.in_bytes_per_s);
        this.#tracks.outbound.add(at_ms, data.out_bytes_per_s);
      },
    };
    this.#readers = new Map(Object.entries(channels).map(([channel, kind]) => [channel, { kind, read: read[kind] }]));
  }

  take({ channel, data }) {
    const reader = this.#readers.get(channel);
    if (!reader || !Number.isFinite(data?.at_ms)) return;
    this.#latest[reader.kind] = data;
    // By the server's clock: a publication that came late belongs where it was measured.
    reader.read(data, data.at_ms);
  }

  refresh() {
    const { cpu, memory, network } = this.#latest;
    if (cpu) {
      setText(this.#parts["cpu-figure"], percent(cpu.percent));
      this.#showCores(cpu.cores ?? []);
    }
    if (memory) {
      setText(this.#parts["memory-figure"], percent(memory.percent));
      setText(this.#parts["memory-detail"], `${memorySize(memory.used_bytes)} of ${memorySize(memory.total_bytes)}`);
    }
    if (network) {
      setText(this.#parts["network-in"], byteRate(network.in_bytes_per_s));
      setText(this.#parts["network-out"], byteRate(network.out_bytes_per_s));
    }
  }

  describe() {
    const { cpu, memory, network } = this.#latest;
    const label = (part, text) => this.#parts[part].setAttribute("aria-label", text);
    if (cpu) label("cpu-chart", `Processor load of the last minute, now ${percent(cpu.percent)}.`);
    if (memory) label("memory-chart", `Memory in use in the last minute, now ${percent(memory.percent)}.`);
    if (network) {
      const [received, sent] = [byteRate(network.in_bytes_per_s), byteRate(network.out_bytes_per_s)];
      label("network-chart", `Network traffic of the last minute, now ${received} in and ${sent} out.`);
    }
  }

  paint(now_ms) {
    const { cpu, memory, inbound, outbound } = this.#tracks;
    const serverNow_ms = now_ms + this.#clock.offset_ms;
    const draw = (name, scale, ...series) => this.#charts[name].draw(serverNow_ms, { scale, series });
    draw("cpu", PERCENT, { points: cpu.points, colour: palette.cpu, fill: true });
    draw("memory", PERCENT, { points: memory.points, colour: palette.memory, fill: true });
    const most = roundUp(Math.max(NETWORK_LEAST, inbound.largest, outbound.largest));
    draw(
      "network",
      linearScale(most, (value) => (value ? byteRate(value).replace(".0", "") : "0")),
      { points: outbound.points, colour: palette.outbound, fill: true },
      { points: inbound.points, colour: palette.inbound, fill: true },
    );
  }

  /** One thin bar per core. */
  #showCores(cores) {
    const host = this.#parts["cpu-cores"];
    const shown = cores.slice(0, CORES_SHOWN_MAX);
    while (host.children.length < shown.length) host.append(document.createElement("i"));
    while (host.children.length > shown.length) host.lastElementChild.remove();
    shown.forEach((load, index) => {
      host.children[index].style.setProperty("--load", Math.min(1, Math.max(0.05, load / 100)));
    });
  }
}
