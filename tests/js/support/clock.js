/** Hand-made time: nothing happens until a test advances it. */

/** Lets everything that needs no time happen: promises, stream reads, message events. */
export const settle = async () => {
  for (let turn = 0; turn < 6; turn++) await new Promise((resolve) => setImmediate(resolve));
};

export class FakeClock {
  nowMs = 1_000_000;
  #timers = new Map();
  #id = 0;

  now = () => this.nowMs;

  setTimeout = (callback, delayMs = 0) => {
    this.#timers.set(++this.#id, { callback, atMs: this.nowMs + Math.max(0, delayMs) });
    return this.#id;
  };

  clearTimeout = (id) => {
    this.#timers.delete(id);
  };

  get pending() {
    return this.#timers.size;
  }

  /** Time passes; timers fire in their order, and what they cause happens in between. */
  async advance(ms) {
    const untilMs = this.nowMs + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers]
        .filter(([, { atMs }]) => atMs <= untilMs)
        .sort((a, b) => a[1].atMs - b[1].atMs || a[0] - b[0]);
      if (!due.length) break;
      const [id, { callback, atMs }] = due[0];
      this.#timers.delete(id);
      this.nowMs = Math.max(this.nowMs, atMs);
      callback();
      await settle();
    }
    this.nowMs = untilMs;
  }

  /** The clock jumps, as after sleep: timers have not run meanwhile. */
  jump(ms) {
    this.nowMs += ms;
  }
}

/** A small seeded generator (mulberry32): the same numbers on every run. */
export const seeded = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
