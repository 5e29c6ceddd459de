/**
 * What is known of the network on the way to a server, for the next page too where there is storage. A day after it
 * began it is all forgotten and measured anew: laptops move, and networks are mended.
 */

const MEMORY_MS = 86_400_000;

export class Memory {
  /** The transport that worked last, or undefined. */
  transport;
  /** How long it took to open. */
  latency_ms;
  /** Seconds between two heartbeats that this network lets live; undefined: the server's own. */
  heartbeat_s;
  /** The same of a poll that waits. */
  wait_s;
  at_ms;
  #save;

  /** `storage` like localStorage, or nothing. */
  constructor({ storage, key, now }) {
    this.#save = () => storage.setItem(key, JSON.stringify(this));
    try {
      const known = JSON.parse(storage.getItem(key));
      if (now() - known.at_ms < MEMORY_MS) for (const name in this) this[name] = known[name];
    } catch {
      // No storage, not allowed to use it, nothing in it, or nonsense.
    }
    this.at_ms ??= now();
  }

  keep(facts) {
    Object.assign(this, facts);
    try {
      this.#save();
    } catch {
      // Private windows and full stores throw; memory is a comfort, not a need.
    }
  }
}
