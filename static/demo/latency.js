/** The latencies of the last minute, with what the chart and the two figures of a pane need. Times are device time. */

/** Above what four channels and a chat bring in a minute; a flood drops the oldest samples first. */
const SAMPLES_MAX = 4096;

export class LatencyWindow {
  #span_ms;
  /** @type {{at_ms: number, latency_ms: number, transport: string}[]} in the order received */
  #samples = [];

  constructor(span_ms = 60_000) {
    this.#span_ms = span_ms;
  }

  add(at_ms, latency_ms, transport) {
    this.#samples.push({ at_ms, latency_ms, transport });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.splice(0, SAMPLES_MAX / 4);
  }

  /** The newest sample's latency, or null. */
  get last_ms() {
    return this.#samples.at(-1)?.latency_ms ?? null;
  }

  /** The middle latency of the window, or null without samples. */
  median_ms(now_ms) {
    this.#forget(now_ms);
    return median(this.#samples.map((sample) => sample.latency_ms));
  }

  /**
   * Least, middle and largest latency per slice of time, oldest first; slices without samples are left out.
   * Slices stand still in time, so that a moving chart does not flicker.
   * @returns {{at_ms: number, low_ms: number, middle_ms: number, high_ms: number, transport: string}[]}
   */
  slices(now_ms, slice_ms) {
    this.#forget(now_ms);
    const slices = [];
    let group = [];
    let groupStart = NaN;
    const close = () => {
      if (!group.length) return;
      const latencies = group.map((sample) => sample.latency_ms);
      slices.push({
        at_ms: groupStart + slice_ms / 2,
        low_ms: Math.min(...latencies),
        middle_ms: median(latencies),
        high_ms: Math.max(...latencies),
        transport: group.at(-1).transport,
      });
    };
    for (const sample of this.#samples) {
      const start = Math.floor(sample.at_ms / slice_ms) * slice_ms;
      if (start !== groupStart) {
        close();
        group = [];
        groupStart = start;
      }
      group.push(sample);
    }
    close();
    return slices;
  }

  #forget(now_ms) {
    const oldest = now_ms - this.#span_ms;
    const kept = this.#samples.findIndex((sample) => sample.at_ms >= oldest);
    if (kept > 0) this.#samples.splice(0, kept);
    else if (kept < 0) this.#samples = [];
  }
}

function median(values) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
