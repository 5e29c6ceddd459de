/** Listeners by event name: the page's own, so that its models know nothing of the DOM. */

export class Emitter {
  /** @type {Map<string, Function[]>} */
  #listeners = new Map();

  on(event, listener) {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener]);
  }

  emit(event, value) {
    for (const listener of this.#listeners.get(event) ?? []) listener(value);
  }
}
