/**
 * Full-jitter exponential backoff: uniform between 0 and a ceiling that doubles. Clients that were cut off together
 * come back spread over the whole interval, where equal or added jitter would leave them in waves.
 */

const BASE_MS = 500;
const CEILING_MS = 30_000;
const MINIMUM_UPTIME_MS = 1_000;

export class Backoff {
  #failures = 0;

  constructor(random) {
    this.random = random;
  }

  /** Milliseconds to wait before the next try. */
  next() {
    return this.random() * Math.min(CEILING_MS, BASE_MS * 2 ** this.#failures++);
  }

  /** A leg lived so long. Only a real life counts: a network that cuts every leg after 200 ms must not be hammered. */
  lived(uptimeMs) {
    if (uptimeMs >= MINIMUM_UPTIME_MS) this.#failures = 0;
  }
}
