/**
 * Commands on their way: each is answered, sent again on the next leg, or given up with a reason; none is forgotten.
 *
 * Publications and calls are recognised by their key, so they may be sent again within the server's window; reads may
 * always.
 * Subscribe, unsubscribe and refresh of a stream session are numbered: within the same session they are sent again
 * unchanged, or later ones would wait behind the hole. In a new session the attach has said it all.
 */

import { byteLength, encode } from "./codec.js";
import { HybridError, LIMIT_EXCEEDED, OUTCOME_UNKNOWN, TOO_LARGE } from "./codes.js";

const NUMBERED = ["subscribe", "unsubscribe", "refresh"];
const KEYED = ["publish", "call"];

export class Outbox {
  /** Of the last command answered. */
  latencyMs;
  /** True when a numbered command was left unanswered for good: the session's sequence cannot be continued. */
  isOutOfStep = false;
  #entries = new Map(); // by id, in the order they were made
  #id = 0;
  #n = 0;
  #leg;

  /** `parts`: environment; queueMax, how many may be open; timeoutMs, after which one is given up. */
  constructor(parts) {
    Object.assign(this, parts);
  }

  /** Sends now or on the next leg. Resolves with the reply, rejects with HybridError, or with the signal's reason. */
  request(command, signal) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#entries.size >= this.queueMax)
        throw new HybridError(LIMIT_EXCEEDED, "limit_exceeded", `${this.queueMax} wait`);
      const id = ++this.#id;
      const text = encode(command); // what is sent again must be what was sent first, whatever becomes of the object
      const entry = { command: { ...JSON.parse(text), id }, size: byteLength(text) + 32, resolve, reject };
      entry.timer = this.environment.setTimeout(() => this.#giveUp(entry), this.timeoutMs);
      this.#entries.set(id, entry);
      const abort = () => {
        this.#drop(entry);
        reject(signal.reason);
      };
      signal?.addEventListener("abort", abort);
      entry.forget = () => signal?.removeEventListener("abort", abort);
      this.#flush();
    });
  }

  settle({ id, error, ...result }) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#drop(entry);
    this.latencyMs = this.environment.now() - entry.sentMs;
    if (error) entry.reject(HybridError.fromWire(error));
    else entry.resolve(result);
  }

  /** A leg is ready: all that is unanswered goes out on it, where that is right. No leg: all waits. */
  use(leg) {
    this.#leg = leg;
    if (!leg) return;
    this.#supersede(({ n }) => {
      // A polled session has no sequence; what it leaves open here cannot be continued by a later stream.
      if (n && leg.isPolled) this.isOutOfStep = true;
      return !n || leg.isPolled;
    });
    this.#flush();
  }

  newSession() {
    this.#n = 0;
    this.isOutOfStep = false;
    this.#supersede(({ n }) => n);
  }

  failAll(error) {
    this.#leg = undefined;
    this.newSession();
    this.#supersede(() => true);
    for (const entry of this.#entries.values()) this.#giveUp(entry, error);
  }

  /** Gives up what the attach has said or will say, in whole, without a repetition. */
  #supersede(isMeant) {
    for (const entry of this.#entries.values())
      if (NUMBERED.includes(entry.command.method) && isMeant(entry.command))
        this.#giveUp(entry, new HybridError(0, "superseded"));
  }

  #flush() {
    const leg = this.#leg;
    if (!leg) return;
    const commands = [];
    for (const entry of this.#entries.values()) {
      const { command } = entry;
      if (entry.leg === leg) continue;
      if (entry.size > leg.limits.command_max_bytes) {
        // The server would end the leg for it, and again on the next one.
        this.#drop(entry);
        entry.reject(new HybridError(TOO_LARGE, "too_large", `at most ${leg.limits.command_max_bytes} bytes`));
        continue;
      }
      entry.sentMs = this.environment.now();
      entry.firstSentMs ??= entry.sentMs;
      if (KEYED.includes(command.method) && entry.sentMs - entry.firstSentMs >= leg.limits.key_window_s * 1000) {
        this.#giveUp(entry);
        continue;
      }
      if (NUMBERED.includes(command.method) && !leg.isPolled) command.n ??= ++this.#n;
      entry.leg = leg;
      commands.push(command);
    }
    if (commands.length) leg.send(commands);
  }

  /** What went out and is no mere question may have taken effect: then nobody can say more than that. */
  #giveUp(entry, error = new HybridError(0, "timeout", "no answer")) {
    const isUnknown = KEYED.includes(entry.command.method) && entry.firstSentMs !== undefined;
    this.#drop(entry);
    entry.reject(isUnknown ? new HybridError(OUTCOME_UNKNOWN, "outcome_unknown", error.message) : error);
  }

  #drop(entry) {
    this.environment.clearTimeout(entry.timer);
    entry.forget();
    this.#entries.delete(entry.command.id);
  }
}
