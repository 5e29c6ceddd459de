/**
 * Full-jitter exponential backoff: uniform between 0 and a ceiling that doubles. Clients that were cut off together
 * come back spread over the whole interval, where equal or added jitter would leave them in waves.
 */
export class Backoff {
  #failures = 0;

  constructor(random, { baseMs = 500, ceilingMs = 30_000, minimumUptimeMs = 5_000 } = {}) {
    Object.assign(this, { random, baseMs, ceilingMs, minimumUptimeMs });
  }

  /** Milliseconds to wait before the next try. */
  next() {
    return this.random() * Math.min(this.ceilingMs, this.baseMs * 2 ** this.#failures++);
  }

  /** A leg lived so long. Only a real life counts: a network that cuts every leg after 200 ms must not be hammered. */
  lived(uptimeMs) {
    if (uptimeMs >= this.minimumUptimeMs) this.#failures = 0;
  }
}
