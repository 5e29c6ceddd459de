/**
 * One channel at the leader, for all followers that have it: the leader's own subscription, the last publications of
 * it, and the joining of followers, each from its own position.
 *
 * A joining collects what comes while the rest of the answer is being read. So the hub can send the answer, what it
 * brings, and what comes after, without a hole and without holding anybody else up.
 */

import { BROKER_UNAVAILABLE, HybridError, NOT_OFFERED, UNRECOVERABLE } from "../codes.js";
import { Tail, isSame, positionOf } from "./tail.js";

const PAGE_MAX = 1_000;
const CATCH_UP_MAX = 4_096; // publications for one joining; who is further behind reads them from the server itself
const TOO_FAR = `more than ${CATCH_UP_MAX} publications behind`;
const OPENING_MS = 5_000; // below the time after which a follower gives up its leg

/** This follower cannot be served here. It is no error of the channel: on its own connection it may go on. */
class Refused extends Error {}

export class Feed {
  legs = new Set(); // who has it, by the hub's word
  #joinings = new Set();
  #tail;
  #opening;
  #offs;

  /** `client`: the leader's own. `onPush(push)`: for all legs. `onEnded()`: the server took it off our list. */
  constructor({ client, name, environment, onPush, onEnded }) {
    Object.assign(this, { client, name, environment, onPush, onEnded });
  }

  get isIdle() {
    return !this.legs.size && !this.#joinings.size;
  }

  /**
   * `{position, recovered?}` or `{error}`, as a follower is told it, and `publications` after it, which grow until
   * `settle`; or `{refusal}`, a reason not to serve it at all.
   */
  async join(from) {
    const joining = { publications: [] };
    this.#joinings.add(joining);
    try {
      if (!this.#opening) await this.#open(joining, from);
      else {
        await this.#patiently(this.#opening);
        await this.#bridge(joining, from);
      }
    } catch (error) {
      if (error instanceof Refused) joining.refusal = error.message;
      else joining.error ??= error;
    }
    return joining;
  }

  /** It is answered; from here on its leg gets what all get, or nothing. */
  settle(joining) {
    this.#joinings.delete(joining);
  }

  /** Once: the channel below may be another feed's by the second time. */
  close() {
    const offs = this.#offs ?? [];
    this.#offs = undefined;
    for (const off of offs) off();
    if (offs.length)
      this.client
        .channel(this.name)
        .unsubscribe()
        .catch(() => {}); // superseded, or disconnected
  }

  /** Begins where the first follower wants to: it gets the exact answer of the server. */
  async #open(joining, from) {
    const channel = this.client.channel(this.name, { position: from.position, history: from.history });
    this.#offs = [
      channel.on("state", ({ state, error }) => {
        if (state === "subscribed") this.#began(joining, channel.position);
        else if (error) this.#ended(error);
      }),
      channel.on("publication", ({ transport: _, ...publication }) => this.#publish(publication)),
      channel.on("reset", ({ position }) => this.#reset(position)),
      channel.on("join", (join) => this.#tell({ join })),
      channel.on("leave", (leave) => this.#tell({ leave })),
    ];
    this.#opening = channel.subscribe();
    this.#opening.catch(() => {});
    await this.#patiently(this.#opening);
  }

  /** The first position is that of the one who opened it. Later ones (another connection) go on where it was. */
  #began(opener, position) {
    if (this.#tail) return;
    this.#tail = new Tail(position);
    opener.position = position;
  }

  /** A channel that the server cannot offer at the moment is asked for again by the client, without a word. */
  async #patiently(opening) {
    let timer;
    const late = new Promise((_, reject) => {
      const error = new HybridError(BROKER_UNAVAILABLE, "broker_unavailable", "not subscribed yet", { retryAfterS: 1 });
      timer = this.environment.setTimeout(() => reject(error), OPENING_MS);
    });
    await Promise.race([opening, late]).finally(() => this.environment.clearTimeout(timer));
  }

  #publish(publication) {
    this.#tail.add(publication);
    for (const joining of this.#joinings) {
      if (joining.position) joining.publications.push(publication);
      if (joining.publications.length > CATCH_UP_MAX) Object.assign(joining, { publications: [], refusal: TOO_FAR });
    }
    this.#tell({ publication });
  }

  #reset(position) {
    this.#tail = new Tail(position);
    for (const joining of this.#joinings) Object.assign(joining, { position, recovered: false, publications: [] });
    this.#tell({ reset: { channel: this.name, position } });
  }

  #ended(error) {
    for (const joining of this.#joinings) joining.error = error;
    this.#tell({ unsubscribed: { channel: this.name, error: error.number } });
    // When the channel has told everybody: leaving it forgets its position, and answers who waits for it.
    queueMicrotask(this.onEnded);
  }

  #tell(push) {
    if (this.legs.size) this.onPush(push);
  }

  /** From the follower's position to ours: by what is at hand, or else by the history. */
  async #bridge(joining, { position, history }) {
    const until = this.#tail.position;
    const isNewer = position?.offset > until.offset && position.epoch === until.epoch;
    const near = position && !isNewer && this.#tail.after(position);
    joining.position = until;
    if (near) Object.assign(joining, { position, publications: near });
    else if (isNewer)
      joining.position = position; // it heard more elsewhere; what it has it will drop
    else if (position || history) await this.#read(joining, { position, history, until });
  }

  async #read(joining, { position, history, until }) {
    let older, start;
    try {
      if (position) [older, start] = [await this.#since(position, until), position];
      else [older, start] = await this.#last(history, until);
    } catch (error) {
      if (joining.recovered === false) return; // told of a reset meanwhile: that is the later truth
      if (error.number === UNRECOVERABLE) return Object.assign(joining, { recovered: false });
      if (error.number === NOT_OFFERED && history) return;
      throw error instanceof Refused ? error : new Refused(error.message);
    }
    if (joining.recovered === false) return;
    joining.position = start;
    joining.publications.unshift(...older);
  }

  /** All after `position` up to `until`. */
  async #since(position, until) {
    const older = [];
    for (let after = position; !isSame(after, until); after = positionOf(older.at(-1))) {
      const publications = await this.#page({ after, limit: PAGE_MAX }, until);
      if (publications[0]?.offset !== after.offset + 1) throw new Refused("the history has a hole");
      older.push(...publications);
      if (older.length > CATCH_UP_MAX) throw new Refused(TOO_FAR);
    }
    return older;
  }

  /** The last `count` up to `until`, and the position before them. */
  async #last(count, until) {
    const newest = await this.#page({ limit: Math.min(PAGE_MAX, count + 1), reverse: true }, until);
    const older = newest.slice(0, count).reverse();
    if (!older.length) return [[], until];
    const { offset, epoch } = older[0];
    const before = newest[older.length];
    if (before) return [older, positionOf(before)];
    return [older, offset === 1 ? { offset: 0 } : { offset: offset - 1, epoch, tag: "00000000" }];
  }

  async #page(options, until) {
    const { publications, head } = await this.client.request({ method: "history", channel: this.name, ...options });
    if (head.epoch !== until.epoch) throw new Refused("the leader has not heard of the new log yet");
    return publications.filter(({ offset }) => offset <= until.offset);
  }
}
