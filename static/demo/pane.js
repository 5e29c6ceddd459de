/**
 * One running session and all that the page knows of it: the ledger of what it was given, its latencies, its events.
 * No DOM here; `paneview.js` shows it.
 */

import { Emitter } from "./emitter.js";
import { durationText } from "./format.js";
import { LatencyWindow } from "./latency.js";
import { Ledger } from "./ledger.js";
import { transportShort, transportSpoken } from "./transports.js";

const EVENTS_MAX = 256;
const EVENTS_KEPT_MS = 60_000;
/** How long a cut lasts before the device says that its network is back. Long enough to be seen in the chart. */
const OUTAGE_MS = 250;
/**
 * Until a session that was told to stay away is opened again. The client never does that by itself; this page may,
 * because its issuer forgets its keys when the server is restarted, and a new token is then all that is needed.
 */
const REOPEN_MS = 3_000;

/** Events: "publication" with what the client gave, in the order it gave it. */
export class Pane extends Emitter {
  ledger = new Ledger();
  latency = new LatencyWindow();
  /** @type {import("./timechart.js").Mark[]} of the last minute, oldest first */
  marks = [];
  /** @type {{from_ms: number, to_ms: number | null}[]} times without a leg, oldest first; null: still without */
  outages = [];
  /** How often the session has come back, and how often it has changed its transport without a break. */
  returns = 0;
  moves = 0;
  /** What happened last, as a sentence. */
  news = "";
  #client;
  #clock;
  #now;
  #networkReturned;
  #opened_ms = Infinity;
  #channels = new Map();
  /** The transport last in use, also while there is none. */
  #carrier = null;

  /**
   * @param {string} id `data-pane` in the page
   * @param {string} title
   * @param {object} client as made by static/hybrid, not yet connected
   * @param {import("./clock.js").ServerClock} clock
   * @param {() => number} now device time in milliseconds
   * @param {() => void} networkReturned tells all clients what the browser tells them after a real outage. Without it
   *   a session that is cut again and again backs off for longer and longer, as it must from a network that is bad.
   */
  constructor({ id, title, client, clock, now, networkReturned }) {
    super();
    this.id = id;
    this.title = title;
    this.#client = client;
    this.#clock = clock;
    this.#now = now;
    this.#networkReturned = networkReturned;
    client.on("state", () => this.#stateChanged());
    client.on("transport", () => this.#transportChanged());
    client.on("error", (error) => {
      this.news = `Not connected: ${error.message}`;
    });
  }

  get transport() {
    return this.#client.transport;
  }

  get state() {
    return this.#client.state;
  }

  get isConnected() {
    return this.#client.state === "connected";
  }

  /** What the client put right before the page saw it: {gaps, dropped}. */
  get healed() {
    const { gaps = 0, dropped = 0 } = this.#client.stats;
    return { gaps, dropped };
  }

  /** @param {Record<string, {history: number}>} channels name -> how much of the past to ask for at first */
  open(channels) {
    this.#opened_ms = this.#now();
    for (const [name, options] of Object.entries(channels)) {
      const channel = this.#client.channel(name, options);
      channel.on("publication", (publication) => this.#received(publication));
      channel.on("reset", ({ position }) => this.#wasReset(name, position));
      channel.subscribe().catch((error) => this.#mark("failed", "refused", `${name}: ${error.message}`));
      this.#channels.set(name, channel);
    }
    this.#client.connect();
  }

  /** Cuts the connection under the session, without a word to either side. False when there is none to cut. */
  cut() {
    if (!this.isConnected) return false;
    this.#mark("cut", "cut", "Connection cut");
    this.#client.cut();
    setTimeout(this.#networkReturned, OUTAGE_MS);
    return true;
  }

  /** Moves the running session. Resolves when it is there or has failed to get there; both are shown. */
  async moveTo(transport) {
    if (!this.isConnected || transport === this.transport) return;
    const started_ms = this.#now();
    try {
      await this.#client.moveTo(transport);
      this.news = `Moved to ${transportSpoken(transport)} in ${durationText(this.#now() - started_ms)}`;
    } catch {
      this.#mark("failed", "no move", `Could not move to ${transportSpoken(transport)}`);
    }
  }

  /** Publishes; resolves with the position, rejects with the reason. */
  publish(channel, data) {
    return this.#channels.get(channel).publish(data);
  }

  /** Forgets marks and outages that have left the chart. */
  forgetOld() {
    const oldest = this.#now() - EVENTS_KEPT_MS;
    while (this.marks.length > EVENTS_MAX || this.marks[0]?.at_ms < oldest) this.marks.shift();
    while (this.outages.length > EVENTS_MAX || (this.outages[0]?.to_ms ?? Infinity) < oldest) this.outages.shift();
  }

  #received(publication) {
    const now_ms = this.#now();
    this.ledger.record(publication);
    const sent_ms = publication.data?.at_ms;
    // What was published before this pane opened was late on purpose: it is the history asked for.
    if (Number.isFinite(sent_ms) && this.#clock.isKnown && this.#clock.toDevice_ms(sent_ms) >= this.#opened_ms) {
      this.latency.add(now_ms, this.#clock.latency_ms(sent_ms, now_ms), publication.transport ?? this.transport);
    }
    this.emit("publication", publication);
  }

  #wasReset(name, position) {
    this.ledger.reset(name, position);
    this.#mark("failed", "reset", `Reset: ${name} starts anew`);
  }

  #stateChanged() {
    const now_ms = this.#now();
    if (this.state === "disconnected") setTimeout(() => this.#client.connect(), REOPEN_MS);
    const outage = this.outages.at(-1);
    const isOut = outage?.to_ms === null;
    if (this.isConnected && isOut) {
      outage.to_ms = now_ms;
      this.returns += 1;
      const took = durationText(now_ms - outage.from_ms);
      this.#mark("back", `+${took}`, `Back on ${transportSpoken(this.transport)} after ${took}`);
    } else if (this.isConnected && !this.news) {
      this.news = `Connected over ${transportSpoken(this.transport)} in ${durationText(now_ms - this.#opened_ms)}`;
    } else if (!this.isConnected && !isOut && this.#carrier) this.outages.push({ from_ms: now_ms, to_ms: null });
  }

  /** Comes ahead of the state: a session that comes back is still out while its transport is told. */
  #transportChanged() {
    const { transport } = this;
    const hasMoved = this.#carrier && this.#carrier !== transport && this.outages.at(-1)?.to_ms !== null;
    this.#carrier = transport;
    if (!hasMoved) return;
    this.moves += 1;
    this.#mark("moved", `→ ${transportShort(transport)}`, `Moved to ${transportSpoken(transport)}`);
  }

  #mark(kind, label, news) {
    this.marks.push({ at_ms: this.#now(), kind, label });
    if (news) this.news = news;
  }
}
