/**
 * Bad weather: every second each pane is cut, and half a second later moved to its next transport, in turns, so that
 * there is never a quiet moment.
 *
 * The turns also keep a browser's six connections to one HTTP/1.1 host from being used up: panes stand on different
 * transports, and only one moves (for a moment on two legs) at a time.
 */

const PERIOD_MS = 1_000;

export class Storm {
  #panes;
  #transports;
  #timers;
  #timer = 0;
  #step = 0;

  /** `panes`: {cut(), moveTo(transport)}; `timers`: {setInterval, clearInterval}. */
  constructor({ panes, transports, timers = globalThis }) {
    this.#panes = panes;
    this.#transports = transports;
    this.#timers = timers;
  }

  get isOn() {
    return this.#timer !== 0;
  }

  start() {
    if (this.isOn) return;
    this.#timer = this.#timers.setInterval(() => this.#strike(), PERIOD_MS / this.#panes.length);
  }

  stop() {
    this.#timers.clearInterval(this.#timer);
    this.#timer = 0;
  }

  /** Cuts one pane and moves another, half the round away. */
  #strike() {
    const size = this.#panes.length;
    const turn = this.#step % size;
    const round = Math.floor(this.#step / size);
    const moving = (turn + (size >> 1)) % size;
    this.#panes[turn].cut();
    this.#panes[moving].moveTo(this.#transports[(moving + round + 1) % this.#transports.length]);
    this.#step += 1;
  }
}
