/**
 * One channel: what the application wants of it, what the server holds of it, and the position in between.
 * Publications pass here in order, each once, or not at all: a gap is never delivered over.
 */

import { HybridError, LIMIT_EXCEEDED } from "./codes.js";
import { Emitter } from "./emitter.js";

const HELD_MAX = 1024;

export class Channel extends Emitter {
  state = "unsubscribed";
  /** Of the last publication the application has got; undefined while there is none. */
  position;

  // What the client needs to know, and nobody else:
  isWanted = false;
  isAttached = false; // the server has us on its list
  isPending = false; // a subscribe or unsubscribe is unanswered
  #client;
  #start = {};
  #held = []; // came before the answer that says from where: on one-way transports they travel apart
  #waiters = [];

  constructor(client, name) {
    super();
    this.#client = client;
    this.name = name;
  }

  /** From where to begin when there is no position yet. */
  startAt({ position, history }) {
    if (this.state === "unsubscribed") this.#start = { position, history };
  }

  /** Resolves when publications flow; rejects when the server says no, or the client is disconnected for good. */
  subscribe() {
    this.isWanted = true;
    if (this.state === "unsubscribed") this.#become("subscribing");
    return this.#settled();
  }

  /** Resolves when the server has taken us off its list. Forgets the position: a later subscribe starts anew. */
  unsubscribe() {
    this.#quit();
    this.position = undefined;
    return this.#settled();
  }

  publish(data, options) {
    return this.#client.publish(this.name, data, options);
  }

  /** `{publications, head}`; `after` is a position, `limit` at most 1000. */
  history({ signal, ...options } = {}) {
    return this.#client.request({ method: "history", channel: this.name, ...options }, signal);
  }

  /** `{entries: [{subject, client?}]}` */
  presence({ signal } = {}) {
    return this.#client.request({ method: "presence", channel: this.name }, signal);
  }

  /**
   * Publications as they come, from now on; subscribes if need be. Ends with `unsubscribe()`, throws what else ends the
   * subscription. Who reads more slowly than they come is told so, instead of missing some.
   */
  async *[Symbol.asyncIterator]() {
    const held = [];
    let end;
    let wake;
    const offs = [
      this.on("publication", (publication) => {
        if (!end && held.push(publication) > HELD_MAX)
          end = { error: new HybridError(LIMIT_EXCEEDED, "limit_exceeded", `${HELD_MAX} wait`) };
        wake?.();
      }),
      this.on("state", ({ state, error }) => {
        if (state === "unsubscribed") end ??= { error };
        wake?.();
      }),
    ];
    try {
      if (!this.isWanted) await this.subscribe();
      for (;;) {
        while (held.length) yield held.shift();
        if (end?.error) throw end.error;
        if (end) return;
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      for (const off of offs) off();
    }
  }

  /** False also when the server has us on its list from a place we do not know: then it has to begin anew. */
  get isAsWanted() {
    return this.isWanted ? this.isAttached && Boolean(this.position) : !this.isAttached;
  }

  /** As an attach names it. */
  get listed() {
    const { history } = this.#start;
    const position = this.position ?? this.#start.position;
    return { channel: this.name, ...(position ? { position } : history && { history }) };
  }

  /** The server has us on its list, from `position` on. False when that leaves something out: attach again. */
  granted({ position, recovered: isRecovered = true }) {
    this.isAttached = true;
    if (!this.isWanted) return true;
    const own = this.position ?? this.#start.position;
    // A repeated answer may be older than what has come since; a newer one would skip what lies between.
    const isAhead = own && (position.offset > own.offset || (own.epoch && position.epoch !== own.epoch));
    if (isRecovered && isAhead) return false;
    if (!isRecovered || !this.position) this.position = isRecovered ? (own ?? position) : position;
    this.#start.position = undefined;
    this.#become("subscribed");
    if (!isRecovered) this.reset(position);
    this.settle();
    const held = this.#held;
    this.#held = [];
    // With too many some were left out, and all come again.
    return held.length < HELD_MAX && held.every((take) => take() ?? true);
  }

  /** The server does not have us on its list: no leg, or not named by it, or taken off as we asked. */
  detached() {
    this.isAttached = false;
    this.#held = [];
    if (this.isWanted) this.#become("subscribing");
    this.settle();
  }

  /** The server ended or refused it. The position stays: the application may ask again, and go on. */
  ended(error) {
    this.isAttached = false;
    if (!this.isWanted) return this.settle();
    this.#quit(error);
  }

  /** One that comes before the answer to a subscribe keeps its place. */
  reset(position) {
    if (!this.isWanted) return;
    if (!this.isAttached || !this.position) return this.#hold(() => this.reset(position));
    this.position = position;
    this.emit("reset", { channel: this.name, position });
  }

  /** Delivers, or drops what the application has already. False: something is missing, nothing was delivered. */
  receive(publication, transport) {
    if (!this.isWanted) return true;
    if (!this.isAttached || !this.position) return this.#hold(() => this.receive(publication, transport));
    const { offset, epoch, tag } = publication;
    const own = this.position;
    const isOtherLog = (own.epoch && epoch !== own.epoch) || (offset === own.offset && own.tag && tag !== own.tag);
    if (isOtherLog || offset > own.offset + 1) return false;
    const { stats } = this.#client;
    if (offset <= own.offset) stats.dropped++;
    else {
      stats.received++;
      this.position = { offset, epoch, tag };
      this.emit("publication", { ...publication, transport });
    }
    return true;
  }

  #hold(take) {
    if (this.#held.length < HELD_MAX) this.#held.push(take);
    return true;
  }

  /** Answers those who wait for the wish to have come true, or not. */
  settle(error) {
    if (!error && (this.isPending || !this.isAsWanted)) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { wasWanted, resolve, reject } of waiters) {
      if (error) reject(error);
      else if (wasWanted === this.isWanted) resolve();
      else reject(new HybridError(0, "superseded"));
    }
  }

  #settled() {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ wasWanted: this.isWanted, resolve, reject });
      this.#client.reconcile(this);
    });
  }

  #quit(error) {
    this.isWanted = false;
    this.#held = [];
    this.#become("unsubscribed", error);
    if (error) this.settle(error);
  }

  #become(state, error) {
    if (state === this.state) return;
    this.state = state;
    this.emit("state", { channel: this.name, state, error });
  }
}
