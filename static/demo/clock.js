/**
 * How far the server's clock is from this device's, so that a latency means something when both are not one machine.
 *
 * The page asks the server for its time now and then. Of the answers in the window the one with the shortest round trip
 * bounds the error best: the server read its clock somewhere between sending and receiving, so the middle is wrong by
 * at most half of the round trip (the clock filter of NTP, RFC 5905, section 10).
 */

const ANSWERS_MAX = 16;
/** The first answers come while the page is still being set up; one alone is often wrong by tens of milliseconds. */
const ANSWERS_MIN = 3;

/** Milliseconds since 1970 that never go back, unlike Date.now(). */
export function steadyNow() {
  return performance.timeOrigin + performance.now();
}

export class ServerClock {
  /** @type {{roundTrip_ms: number, offset_ms: number}[]} oldest first */
  #answers = [];
  #best = null;

  /** True once the server has answered a few times; before that no latency can be told. */
  get isKnown() {
    return this.#answers.length >= ANSWERS_MIN;
  }

  /** Server time minus device time. */
  get offset_ms() {
    return this.#best?.offset_ms ?? 0;
  }

  /** The offset is right to within this. */
  get uncertainty_ms() {
    return this.#best ? this.#best.roundTrip_ms / 2 : Infinity;
  }

  /** One answer. A device that slept in between shows as a long round trip and is not believed. */
  observe({ sent_ms, server_ms, received_ms }) {
    const roundTrip_ms = received_ms - sent_ms;
    if (!Number.isFinite(server_ms) || !(roundTrip_ms >= 0)) return;
    this.#answers.push({ roundTrip_ms, offset_ms: server_ms - (sent_ms + received_ms) / 2 });
    if (this.#answers.length > ANSWERS_MAX) this.#answers.shift();
    this.#best = this.#answers.reduce((best, answer) => (answer.roundTrip_ms < best.roundTrip_ms ? answer : best));
  }

  /** Device time at which the server's clock showed `server_ms`. */
  toDevice_ms(server_ms) {
    return server_ms - this.offset_ms;
  }

  /** Time on the way, never below 0: what lies below is this clock's own error. */
  latency_ms(server_ms, received_ms) {
    return Math.max(0, received_ms - this.toDevice_ms(server_ms));
  }
}

/**
 * Asks `url` for the server's time, a few times at first and then twice a minute. An answer that fails is skipped.
 * @returns {() => void} stops asking
 */
export function keepAsking(clock, url, { fetch = globalThis.fetch.bind(globalThis), now = steadyNow } = {}) {
  let asked = 0;
  let timer = 0;
  const ask = async () => {
    try {
      const sent_ms = now();
      const response = await fetch(url, { cache: "no-store" });
      const received_ms = now();
      const { at_ms } = await response.json();
      clock.observe({ sent_ms, server_ms: at_ms, received_ms });
    } catch {
      // The network is down or cut on purpose; the next question will tell.
    }
    asked += 1;
    timer = setTimeout(ask, asked < 6 ? 150 : 30_000);
  };
  ask();
  return () => clearTimeout(timer);
}
