/** Named events with any number of listeners. */
export class Emitter {
  #listeners = { __proto__: null };

  /** Calls `listener` at each `event` from now on; the function returned takes it off again. */
  on(event, listener) {
    (this.#listeners[event] ??= new Set()).add(listener);
    return () => this.off(event, listener);
  }

  off(event, listener) {
    this.#listeners[event]?.delete(listener);
  }

  /** A listener that throws harms neither the others nor the session: its error surfaces outside, uncaught. */
  emit(event, value) {
    for (const listener of [...(this.#listeners[event] ?? [])]) {
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
