/**
 * One round of trying: transports start one after another, each after a head start or when the one before has failed.
 * It is won by the first that is ready, not by the first that opens: what the network does to a transport shows itself
 * by what comes back on it.
 */

const HEAD_START_MS = 500; // a WebSocket that works needs less; more would be felt where it does not
const HEAD_START_CEILING_MS = 1_000; // of one that took longer when it worked last

export class Race {
  #names;
  #failures = [];
  #inAir = 0;
  #timer;

  /**
   * `host`: {ladder, environment, open(name, confirm, onFailure), onFailed(failures)}, the last called when all have
   * failed.
   */
  constructor(host) {
    Object.assign(this, { host, environment: host.environment });
  }

  start() {
    const { ladder } = this.host;
    const { transport, latency_ms: latencyMs } = ladder.memory;
    const names = (this.#names = ladder.order());
    const knownMs = names[0] === transport ? 3 * latencyMs : 0;
    this.#next(knownMs || !names[1], Math.min(HEAD_START_CEILING_MS, Math.max(HEAD_START_MS, knownMs)));
  }

  /** Somebody has won, or it is called off. */
  end() {
    this.#names = undefined;
    this.environment.clearTimeout(this.#timer);
  }

  #next(confirm, headStartMs = HEAD_START_MS) {
    if (!this.#names) return;
    this.environment.clearTimeout(this.#timer);
    const [transport, ...others] = this.#names;
    this.#names = others;
    if (!transport) return this.#inAir || this.host.onFailed(this.#failures);
    if (others.length) this.#timer = this.environment.setTimeout(() => this.#next(), headStartMs);
    this.#inAir++;
    this.host.open(transport, Boolean(confirm), (end) => {
      this.#inAir--;
      this.#failures.push({ transport, ...end });
      this.#next();
    });
  }
}
