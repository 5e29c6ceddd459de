/**
 * Which transport to try next. Success is remembered (a day, by origin), failure is forgotten (minutes): a server's
 * restart fails every transport alike and must demote none for long.
 */

const MEMORY_MS = 86_400_000;
const DEMOTION_MS = 300_000;
const SHORT_LIFE_MS = 5_000;
const STRIKES = 2;

export class Ladder {
  #refused = new Set();
  #strikes = new Map();
  #pinned;

  /** `names` in order of preference; `storage` like localStorage, or nothing. */
  constructor(names, { storage, key, now }) {
    Object.assign(this, { names, storage, key, now });
  }

  /** The transports to try, in order: the one asked for, what worked last, then by preference; flapping ones last. */
  order() {
    const rank = (name) =>
      (name === this.#pinned ? -2 : name === this.remembered ? -1 : 0) + (this.#isDemoted(name) ? 10 : 0);
    return this.names.filter((name) => !this.#refused.has(name)).sort((a, b) => rank(a) - rank(b));
  }

  /** The transport that worked here within the last day, or undefined. */
  get remembered() {
    try {
      const { transport, at_ms: atMs } = JSON.parse(this.storage.getItem(this.key));
      return this.now() - atMs < MEMORY_MS ? transport : undefined;
    } catch {
      return undefined; // no storage, not allowed to use it, nothing in it, or nonsense
    }
  }

  /** Those preferred to `name` that deserve a try from time to time. */
  better(name) {
    if (name === this.#pinned) return [];
    return this.names
      .slice(0, this.names.indexOf(name))
      .filter((other) => !this.#refused.has(other) && !this.#isDemoted(other));
  }

  /** The application chose: this first, and no looking for better ones. */
  pin(name) {
    this.#pinned = name;
  }

  worked(name) {
    this.#store(JSON.stringify({ transport: name, at_ms: this.now() }));
  }

  /** A leg broke without a word. Twice within a short life is a network that lets us open and then cuts. */
  broke(name, livedMs) {
    if (livedMs >= SHORT_LIFE_MS) return this.#strikes.delete(name);
    this.#strikes.set(name, { count: (this.#strikes.get(name)?.count ?? 0) + 1, atMs: this.now() });
    if (this.#isDemoted(name) && this.remembered === name) this.#store("null");
  }

  /** Never again in this client's life: it is not there, or it was told that its frames are wrong. */
  refuse(name) {
    this.#refused.add(name);
  }

  #isDemoted(name) {
    const { count = 0, atMs = 0 } = this.#strikes.get(name) ?? {};
    return count >= STRIKES && this.now() - atMs < DEMOTION_MS;
  }

  #store(text) {
    try {
      this.storage.setItem(this.key, text);
    } catch {
      // Private windows and full stores throw; memory is a comfort, not a need.
    }
  }
}
