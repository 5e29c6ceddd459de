/**
 * One round of trying: transports start one after another, each after a head start or when the one before has failed.
 * It is won by the first that is ready, not by the first that opens: what the network does to a transport shows itself
 * by what comes back on it.
 */

import { probe } from "./probe.js";

const HEAD_START_MS = 500; // a WebSocket that works needs less; more would be felt where it does not
const LAST_RESORT_MS = 5_000; // before one that was spoilt: the others may only be late
const SHARED_HEAD_START_MS = 200; // a leader of tabs answers in a few
const HEAD_START_CEILING_MS = 1_000; // of one that took longer when it worked last
const HEAD_START_SOUND_MS = 2_500; // of one that worked until now: a gateway may hold all of them for a server's restart

export class Race {
  #names;
  #failures = [];
  #inAir = 0;
  #timer;

  /**
   * `host`: {ladder, sound, environment, modules, context, open(name, confirm, onFailure), onFailed(failures)}, the last
   * called when all have failed.
   */
  constructor(host) {
    Object.assign(this, { host, environment: host.environment });
  }

  start() {
    const { ladder, modules } = this.host;
    const { transport, latency_ms: latencyMs } = ladder.memory;
    const names = (this.#names = ladder.order());
    const knownMs = names[0] === transport ? 3 * latencyMs : 0;
    const headStartMs =
      names[0] === this.host.sound
        ? HEAD_START_SOUND_MS
        : Math.min(HEAD_START_CEILING_MS, Math.max(HEAD_START_MS, knownMs));
    const begin = () => this.#inAir || this.#failures[0] || this.#next(knownMs || !names[1], headStartMs);
    if (!modules.shared?.isWanted) return begin();
    // What has a leader waits for it: it may be on its way back itself.
    const leg = this.host.open("shared", true, begin);
    this.#timer = this.environment.setTimeout(() => leg.latencyMs ?? begin(), SHARED_HEAD_START_MS);
    // Where no page of this origin has a lock, nobody leads, and what is behind the door may be slow to come. Streams
    // wait for it all the same: pages that come at once would take up all connections that a browser makes.
    if (names[0] === "websocket")
      this.environment.locks.query().then(({ held, pending }) => held[0] || pending[0] || begin(), begin);
  }

  /** Somebody has won, or it is called off. */
  end() {
    this.#names = undefined;
    this.environment.clearTimeout(this.#timer);
  }

  #next(confirm, headStartMs = HEAD_START_MS) {
    if (!this.#names) return;
    this.environment.clearTimeout(this.#timer);
    const transport = this.#names.shift();
    if (!transport) return this.#inAir || this.host.onFailed(this.#failures);
    const waitMs = this.host.ladder.isDemoted(this.#names[0]) ? LAST_RESORT_MS : headStartMs;
    if (this.#names[0]) this.#timer = this.environment.setTimeout(() => this.#next(), waitMs);
    this.#inAir++;
    this.host.open(transport, Boolean(confirm), async (end) => {
      if (!this.#names) return;
      this.#inAir--;
      this.#failures.push({ transport, ...end });
      // The server itself asks to come later, or is away: that is so on any transport. What worked here before is not
      // given up for it.
      if ((end.code && end.delayMs) || (confirm && !(await probe(this.host.context)))) this.#names &&= [];
      this.#next();
    });
  }
}
