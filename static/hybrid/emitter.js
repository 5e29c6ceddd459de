/** Named events with any number of listeners. */
export class Emitter {
  #listeners = new Map();

  /** Calls `listener` at each `event` from now on; the function returned takes it off again. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.off(event, listener);
  }

  off(event, listener) {
    this.#listeners.get(event)?.delete(listener);
  }

  /** A listener that throws harms neither the others nor the session: its error surfaces outside, uncaught. */
  emit(event, value) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
