/**
 * What the nodes count, over time: samples of what is open, and rates of what only grows. Pure, but for what it keeps.
 *
 * A rate is the difference of two answers of one node by that node's own clock, so neither a slow answer nor a second
 * page that asks makes it jump. A node that is new, or did not answer before, has none until its second answer.
 */

const GROWING = ["published", "deliveries", "flushed_bytes", "refused", "cpu_s"];
export const TRANSPORTS = ["websocket", "sse", "longpoll"];

/**
 * @typedef {{websocket: number, sse: number, longpoll: number, connections: number, sessions: number, away: number,
 *   slow: number, behind: number, buffered: number, subscriptions: number, published: number | null,
 *   delivered: number | null, bytes: number | null, refused: number | null, cpu: number | null, lag_ms: number,
 *   nodes: number}} Figures
 * @typedef {{at_ms: number, nodes: Map<string, Figures>}} Sample
 */
export class Rates {
  /** @type {Sample[]} oldest first */
  samples = [];
  #span_ms;
  /** The last answer of each node, and the rates that came of it. */
  #last = new Map();

  constructor({ span_ms }) {
    this.#span_ms = span_ms;
  }

  /** @param {{nodes: object[]}} answer of `GET /v1/info/stats` */
  add(answer, at_ms) {
    const nodes = new Map(answer.nodes.map((stats) => [stats.node, this.#figures(stats)]));
    for (const node of this.#last.keys()) if (!nodes.has(node)) this.#last.delete(node);
    this.samples.push({ at_ms, nodes });
    while (this.samples[0].at_ms < at_ms - this.#span_ms) this.samples.shift();
  }

  /** The newest of one node, or of all together; null before there is any. */
  now(node = "") {
    const last = this.samples.at(-1);
    return last ? figuresOf(last, node) : null;
  }

  /** What was so at about this moment: of the sample next to it; null before there is any. */
  at(at_ms, node = "") {
    let next = null;
    for (const sample of this.samples) {
      if (!next || Math.abs(sample.at_ms - at_ms) <= Math.abs(next.at_ms - at_ms)) next = sample;
    }
    return next && { at_ms: next.at_ms, figures: figuresOf(next, node) };
  }

  /** One figure over time, for a chart: where it is not known there is no point. */
  points(name, node = "") {
    const points = [];
    for (const sample of this.samples) {
      const value = figuresOf(sample, node)?.[name] ?? null;
      if (value !== null) points.push({ at_ms: sample.at_ms, value });
    }
    return points;
  }

  #figures(stats) {
    const { connections, sessions } = stats;
    const [websocket, sse, longpoll] = TRANSPORTS.map((transport) => connections[transport] ?? 0);
    const rates = this.#rates(stats);
    return {
      websocket,
      sse,
      longpoll,
      connections: sum(Object.values(connections)),
      sessions: sum(Object.values(sessions)),
      away: sessions.none ?? 0,
      slow: stats.slow,
      behind: stats.behind,
      buffered: stats.buffered_bytes,
      subscriptions: stats.subscriptions,
      published: rates.published,
      delivered: rates.deliveries,
      bytes: rates.flushed_bytes,
      refused: rates.refused,
      cpu: rates.cpu_s,
      lag_ms: stats.lag_s * 1000,
      nodes: 1,
    };
  }

  #rates(stats) {
    const last = this.#last.get(stats.node);
    const nothing = Object.fromEntries(GROWING.map((name) => [name, null]));
    if (!last || stats.at_s < last.stats.at_s) {
      this.#last.set(stats.node, { stats, rates: nothing });
      return nothing;
    }
    const span_s = stats.at_s - last.stats.at_s;
    if (span_s === 0) return last.rates; // the same look: it counts for a second
    const rates = Object.fromEntries(GROWING.map((name) => [name, (stats[name] - last.stats[name]) / span_s]));
    this.#last.set(stats.node, { stats, rates });
    return rates;
  }
}

/** All nodes together: sums, but the worst of the lag and of the processors, which do not add up to anything. */
export function together(all) {
  if (!all.length) return null;
  const figures = {};
  for (const name of Object.keys(all[0])) {
    const known = all.map((one) => one[name]).filter((value) => value !== null);
    const isWorst = name === "lag_ms" || name === "cpu";
    figures[name] = known.length ? (isWorst ? Math.max(...known) : sum(known)) : null;
  }
  return figures;
}

function figuresOf(sample, node) {
  return node ? (sample.nodes.get(node) ?? null) : together([...sample.nodes.values()]);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
