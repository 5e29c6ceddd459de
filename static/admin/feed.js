/**
 * Asks for the figures every two seconds, for as long as somebody looks. After a failure it tries again by itself, later
 * each time, and at once when the network or the person returns.
 *
 *     waiting ──answer──► live ──failure──► offline ──answer──► live
 *        any ──no token, or not for this──► refused (until it is started again)
 */

const EVERY_MS = 2_000;
const AGAIN_MS = [1_000, 2_000, 4_000, 8_000];
const REFUSALS = ["signed-out", "forbidden"];

export class Feed {
  state = "waiting";
  /** When it tries again, by `now`; null while it is not going to. */
  again_ms = null;
  #ask;
  #take;
  #changed;
  #timers;
  #timer = null;
  #failures = 0;
  #isAsking = false;
  #isHidden = false;
  #isStarted = false;

  /**
   * @param {{ask: () => Promise<object>, take: (answer: object) => void, changed: (error: Error | null) => void,
   *   timers?: {set: typeof setTimeout, clear: typeof clearTimeout, now: () => number}}} given
   */
  constructor({ ask, take, changed, timers = { set: setTimeout.bind(null), clear: clearTimeout.bind(null), now: Date.now } }) {
    this.#ask = ask;
    this.#take = take;
    this.#changed = changed;
    this.#timers = timers;
  }

  start() {
    this.#isStarted = true;
    this.state = "waiting";
    this.#failures = 0;
    this.#next(0);
  }

  stop() {
    this.#isStarted = false;
    this.#next(null);
  }

  /** Nobody looks: nothing is asked. Somebody does again: at once. */
  hidden(isHidden) {
    this.#isHidden = isHidden;
    if (isHidden) this.#next(null);
    else this.wake();
  }

  /** Do not wait any longer, if it waits at all. */
  wake() {
    if (this.#isStarted && !this.#isAsking && this.state !== "refused") this.#next(0);
  }

  #next(delay_ms) {
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#timer = null;
    this.again_ms = null;
    if (delay_ms === null || !this.#isStarted || this.#isHidden) return;
    this.again_ms = this.#timers.now() + delay_ms;
    this.#timer = this.#timers.set(() => this.#round(), delay_ms);
  }

  async #round() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#timer = null;
    try {
      const answer = await this.#ask();
      if (!this.#isStarted) return;
      this.#failures = 0;
      this.#become("live", null);
      this.#take(answer);
      this.#next(EVERY_MS);
    } catch (error) {
      if (!this.#isStarted) return;
      if (REFUSALS.includes(error.kind)) {
        this.#next(null);
        this.#become("refused", error);
        return;
      }
      this.#next(AGAIN_MS[Math.min(this.#failures, AGAIN_MS.length - 1)]);
      this.#failures += 1;
      this.#become("offline", error);
    } finally {
      this.#isAsking = false;
    }
  }

  #become(state, error) {
    const isNews = this.state !== state || error !== null;
    this.state = state;
    if (isNews) this.#changed(error);
  }
}
