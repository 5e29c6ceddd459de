/**
 * The client: channels, commands and their meaning. How they are carried is the session's affair.
 *
 * States: disconnected -> connecting -> connected -> connecting (a leg was lost) ...; disconnected by `disconnect()` or
 * because the server said to stay away.
 */

import { Channel } from "./channel.js";
import { isChannelName, json } from "./codec.js";
import { ALREADY_SUBSCRIBED, BAD_REQUEST, HybridError, isPassing } from "./codes.js";
import { OUTCOME_UNKNOWN, OUT_OF_ORDER, SESSION_UNKNOWN } from "./codes.js";
import { Emitter } from "./emitter.js";
import { platform } from "./environment.js";
import { Ladder } from "./ladder.js";
import { Memory } from "./memory.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import { sharing } from "./sharing.js";
import { Tokens } from "./tokens.js";

const RETRY_MS = 2_000;

export class Client extends Emitter {
  state = "disconnected";
  stats = { received: 0, dropped: 0, gaps: 0, legs: 0, reconnects: 0, latencyMs: undefined };
  limits; // as told at the last attach
  #channels = new Map(); // names are the server's and the application's to choose: never an object's keys
  #environment;
  #tokens;
  #ladder;
  #outbox;
  #session;
  #unlisten;

  /** See index.d.ts for the options. Nothing happens before `connect()`. */
  constructor({
    url,
    getToken,
    transports = ["websocket", "sse", "longpoll"],
    name = "hybrid-js",
    version = "0.1.0",
    queueMax = 256,
    timeoutMs = 60_000,
    storage,
    codec = json,
    debug = false,
    tabs = true,
    ["environment"]: replaced, // quoted: the name stays in the one-file build
  }) {
    super();
    const environment = (this.#environment = { ...platform(), ...replaced });
    const base = new URL(url, environment.location).href.replace(/\/$/, "");
    this.debug = debug;
    this.#tokens = new Tokens(getToken, environment.now);
    const memory = new Memory({
      storage: storage ?? environment.storage,
      key: `hybrid:${base}`,
      now: environment.now,
    });
    this.#ladder = new Ladder(transports, memory, environment.now);
    this.#outbox = new Outbox({ environment, queueMax, timeoutMs });
    this.#session = new Session({
      context: { environment, codec, url: base, tokens: this.#tokens, positions: () => this.#positions() },
      ladder: this.#ladder,
      client: { name, version },
      hooks: this,
    });
    if (tabs && environment.locks)
      this.#session.modules.shared = sharing(this, { ...arguments[0], ["environment"]: environment, tabs: false });
  }

  /** The transport in use, undefined while there is none. */
  get transport() {
    return this.#session.current?.isReady ? this.#session.current.transport : undefined;
  }

  /** The session's id, undefined before the first attach. */
  get session() {
    return this.#session.id || undefined;
  }

  connect() {
    if (this.state !== "disconnected") return;
    this.#unlisten = this.#environment.onWake(
      () => this.#session.wake(),
      () => this.#session.sleep(),
    );
    this.#become("connecting");
    this.#session.start();
  }

  /** Ends for good; what is unanswered is rejected. Channels keep their positions and come back with `connect()`. */
  disconnect() {
    this.#session.stop();
  }

  /** Make-before-break. Rejects with the reason where the transport does not work; the session then stays as it is. */
  async moveTo(transport) {
    await this.#session.move(transport);
    this.#ladder.pin(transport);
    const { shared } = this.#session.modules;
    if (shared) shared.isWanted = transport === "shared";
  }

  /** For demonstrations: the leg breaks without a goodbye. */
  cut() {
    this.#session.reattach("cut");
  }

  /** The same object for the same name. The first subscribe starts at `position`, or `history` publications back. */
  channel(name, start = {}) {
    if (!isChannelName(name)) throw new HybridError(BAD_REQUEST, "bad_request", `not a channel name: ${name}`);
    let channel = this.#channels.get(name);
    if (!channel) this.#channels.set(name, (channel = new Channel(this, name)));
    if ("position" in start || "history" in start) channel.startAt(start);
    return channel;
  }

  /** `{position, repeated?}` once it is in the log. The key makes sending it again safe, by us or by the caller. */
  async publish(channel, data, { type, key = this.#environment.makeKey(), binary, signal } = {}) {
    return this.request({ method: "publish", channel, data: data ?? null, key, type, binary }, signal);
  }

  /** What the application's handler `name` on the server returns. The key has it carried out at most once. */
  async call(name, data, { key = this.#environment.makeKey(), signal } = {}) {
    return (await this.request({ method: "call", name, data: data ?? null, key }, signal)).result;
  }

  /** Asks for a token now, and shows it to the server where a connection is open. Rejects where that is refused. */
  async refresh() {
    this.#tokens.spend();
    await this.#tokens.get();
    const leg = this.#session.current;
    // A polled session needs no command for it: its next poll brings the new token.
    if (!leg?.isReady || leg.isPolled || !this.#tokens.value) return;
    const reply = await this.#outbox.request({ method: "refresh" });
    this.#tokens.expiresIn(reply.token_expires_in_s);
  }

  /** Any command that needs no number. Waits for a connection if there is none, in a bounded queue. */
  async request(command, signal) {
    if (this.state === "disconnected") throw new HybridError(0, "disconnected", "connect first");
    const reply = await this.#outbox.request(command, signal);
    this.stats.latencyMs = this.#outbox.latencyMs;
    return reply;
  }

  // -- what channels and the session ask and tell; not for applications

  /** Brings what the server holds of this channel in line with what is wanted. Called by channels. */
  async reconcile(channel) {
    if (channel.isPending) return;
    if (channel.isAsWanted) return channel.settle();
    if (!this.transport) return channel.isWanted || channel.detached();
    const isAdding = channel.isWanted && !channel.isAttached;
    const method = isAdding ? "subscribe" : "unsubscribe";
    const leg = this.#session.current;
    let reply, error;
    channel.isPending = true;
    try {
      reply = await this.#outbox.request({ method, ...(isAdding ? channel.listed : { channel: channel.name }) });
    } catch (rejection) {
      error = rejection;
    }
    channel.isPending = false;
    const { number, name: reason } = error ?? {};
    if (reason === "superseded") return this.reconcile(channel);
    if (reason === "timeout" || [OUT_OF_ORDER, SESSION_UNKNOWN, OUTCOME_UNKNOWN].includes(number))
      return this.#session.renew(`${method}: ${error.message}`);
    if (isAdding && error && isPassing(error)) {
      const delayMs = (error.retryAfterS * 1000 || RETRY_MS) * (1 + this.#environment.random());
      return this.#environment.setTimeout(() => this.reconcile(channel), delayMs);
    }
    if (isAdding && error && number !== ALREADY_SUBSCRIBED) channel.ended(error);
    else if (leg !== this.#session.current) {
      // It may be the kept answer to what was done before the attach, or have been done after it. Where that makes a
      // difference to what the attach said, only asking once more tells: claim the contrary of what is wanted.
      if (isAdding !== channel.isAttached) channel.isAttached = !channel.isWanted;
    } else if (!isAdding) channel.detached();
    else if (!error) {
      if (!channel.granted(reply)) return this.#gap();
    } else if (channel.position) channel.granted(channel);
    // Subscribed, and not known from where: the first answer was lost. Only an attach tells it.
    else return this.#session.reattach(error.message);
    this.reconcile(channel);
  }

  subscriptions() {
    return this.#wanted().map((channel) => channel.listed);
  }

  /** False where a stream would have to go on with a sequence that has a hole. */
  canContinue(module) {
    return module?.isPolled || !this.#outbox.isOutOfStep;
  }

  onNewSession() {
    this.#outbox.newSession();
  }

  onAttached(attached) {
    this.limits = attached.limits;
    this.#tokens.expiresIn(attached.token_expires_in_s);
  }

  onFailed(error) {
    this.emit("error", error);
  }

  onLeg({ transport, attempt }, event, reason) {
    if (this.debug) console.debug("hybrid", transport, attempt, event, reason ?? "");
    this.emit("leg", { transport, attempt, event, reason });
  }

  #wanted() {
    return [...this.#channels.values()].filter((channel) => channel.isWanted);
  }

  #positions() {
    // While the server's list is not known yet, a poll names all: it may land where the attach was never seen.
    return this.#wanted()
      .filter(({ isAttached }) => isAttached || !this.transport)
      .map(({ listed: { channel, position } }) => ({ channel, position }))
      .filter(({ position }) => position);
  }

  onReady(leg, subscribed) {
    if (this.stats.legs++ && this.state === "connecting") this.stats.reconnects++;
    const { transport, session, attempt } = leg;
    this.emit("transport", { transport, session, attempt });
    if (this.#session.current === leg) this.#become("connected", { transport });
    if (this.#session.current === leg) this.onSubscribed(subscribed, leg);
  }

  /** The whole truth: what is not in it has ended, whatever we thought. What is not as wanted is asked for. */
  onSubscribed({ channels }, leg) {
    const told = new Map(channels.map((entry) => [entry.channel, entry]));
    for (const channel of this.#channels.values()) {
      const { error, ...granted } = told.get(channel.name) ?? { error: 0 };
      if (!error && granted.position) {
        if (!channel.granted(granted)) return this.#gap();
      } else if (error && !isPassing({ number: error })) channel.ended(HybridError.fromWire({ number: error }));
      // On a leg that goes on, what was asked for since may be on its way.
      else if (leg || !channel.isPending) channel.detached();
    }
    if (leg && leg !== this.#session.current) return; // a listener has decided otherwise
    if (leg) this.#outbox.use(leg);
    for (const channel of this.#channels.values()) this.reconcile(channel);
  }

  onPush(leg, { reply, publication, reset, subscribe, unsubscribed, join, leave, expiring }) {
    if (reply) this.#outbox.settle(reply);
    else if (publication) {
      if (this.#channels.get(publication.channel)?.receive(publication, leg.transport) === false) this.#gap();
    } else if (reset) this.#channels.get(reset.channel)?.reset(reset.position);
    else if (subscribe) this.emit("subscribe", subscribe);
    else if (unsubscribed) this.#unsubscribed(unsubscribed);
    else if (join) this.#channels.get(join.channel)?.emit("join", join);
    else if (leave) this.#channels.get(leave.channel)?.emit("leave", leave);
    else if (expiring) this.refresh().catch((error) => error.name === "superseded" || this.emit("error", error));
  }

  #unsubscribed({ channel: name, error }) {
    const channel = this.#channels.get(name);
    if (error) return channel?.ended(HybridError.fromWire({ number: error }));
    // As we asked, some time ago: we may want it again by now.
    channel?.detached();
    if (channel) this.reconcile(channel);
  }

  #gap() {
    this.stats.gaps++;
    this.#session.reattach("a publication is missing");
  }

  onLost(reason) {
    this.#outbox.use();
    this.#become("connecting", { reason });
    for (const channel of this.#channels.values()) channel.detached();
  }

  onStopped(error) {
    this.#unlisten();
    this.#become("disconnected", { reason: error?.message });
    const rejection = error ?? new HybridError(0, "disconnected", "disconnect() was called");
    this.#outbox.failAll(rejection);
    for (const channel of this.#channels.values()) {
      channel.isPending = false;
      channel.detached();
      channel.settle(rejection);
    }
    if (error) this.emit("error", error);
  }

  #become(state, { transport, reason } = {}) {
    if (state === this.state) return;
    this.state = state;
    this.emit("state", { state, transport, reason });
  }
}
