/**
 * The leader's side: a small server of docs/protocol.md, section B, on a BroadcastChannel instead of a network, on top
 * of a client of its own. That client has the one connection; the leader's application uses it like all others, as a
 * follower, so that its own wishes (leave a channel, move, disconnect) are nobody else's affair.
 *
 * Nothing starts before there is somebody to serve: a tab that is alone keeps its own connection, and pays nothing.
 * Sessions of followers are not kept: one that attaches is a new one, and its positions say all.
 *
 * What the leader sends carries `leader`, its id: to one leg `{to, pushes, live?}` or `{to, end}`, to all `{push}` (each
 * publication once, however many they are), `{isHere}`, `{isLeading}`, `{isGone}`. What a follower sends says from which
 * leg it is: `{from, attach, isMoving}`, `{from, confirm}`, `{from, commands}`, `{from, isAsking}`, `{from, isLeaving}`.
 *
 * Bounds, and what crosses them: see the constants.
 */

import { HybridError, LIMIT_EXCEEDED, OUTCOME_UNKNOWN, ROTATED } from "../codes.js";
import { Feed } from "./feed.js";

export const LEGS_MAX = 64; // more have connections of their own
export const CHANNELS_MAX = 256; // of one leg, as on the server; with more it has a connection of its own
export const COMMANDS_MAX = 256; // of one leg, unanswered; more are refused with limit_exceeded
const LINGER_MS = 5_000; // a channel that nobody has stays subscribed: who lost its leg comes back for it
const SWEEP_MS = 60_000;
const SILENT_MS = 150_000; // a follower that crashed; the timers of a hidden one may come a minute late
const AWAY_NOTICE_MS = 1_000; // a shorter loss of the connection is none of the followers' business
const AWAY_MAX_MS = 10_000; // who comes later than that tries by itself at once, for it may be the leader's fault
const IN_GOOD_TIME_S = 3_600; // followers watch the leader by their own means: timers of hidden tabs are late
const RETRY_S = 1;

export class Hub {
  #legs = new Map();
  #feeds = new Map();
  #client;
  #channel;
  #connected = [];
  #noticeTimer;
  #sweepTimer;
  #awaySinceMs = Infinity;
  #isClosed = false;

  /**
   * `channel`: a BroadcastChannel of its own. `makeClient()`: a client that shares with nobody. `hooks`: onConnected(),
   * onStopped(reason): the client will not come back, somebody else should lead.
   */
  constructor({ id, channel, makeClient, environment, hooks }) {
    Object.assign(this, { id, makeClient, environment, hooks });
    this.#channel = channel;
    channel.onmessage = ({ data }) => data.leader || this.#receive(data);
    this.#post({ isLeading: true });
  }

  /** True when it has a connection, or is on the way to one. */
  get isServing() {
    return Boolean(this.#client);
  }

  start() {
    if (this.#client) return;
    this.#client = this.makeClient();
    const becomes = {
      connected: () => this.#cameBack(),
      connecting: () => this.#wentAway(),
      disconnected: (reason) => this.#stopped(reason),
    };
    this.#client.on("state", ({ state, reason }) => becomes[state](reason));
    this.#client.on("subscribe", (invitation) => this.#post({ push: { subscribe: invitation } }));
    this.#client.connect();
    this.#sweep();
  }

  /** Followers attach elsewhere at once. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#post({ isGone: true });
    this.#channel.close();
    for (const timer of [this.#noticeTimer, this.#sweepTimer]) this.environment.clearTimeout(timer);
    for (const leg of this.#legs.values()) this.#drop(leg);
    for (const feed of this.#feeds.values()) this.environment.clearTimeout(feed.lingerTimer);
    this.#client?.disconnect();
  }

  // -- the connection

  #cameBack() {
    this.#awaySinceMs = Infinity;
    this.environment.clearTimeout(this.#noticeTimer);
    for (const resolve of this.#connected.splice(0)) resolve();
    this.#post({ isLeading: true }); // for those who have been refused meanwhile
    this.hooks.onConnected();
  }

  #wentAway() {
    this.#awaySinceMs = this.environment.now();
    // Those who had begun come again, and wait: their applications are to know.
    this.#noticeTimer = this.environment.setTimeout(() => {
      for (const leg of this.#legs.values()) if (leg.isReady) this.#end(leg, "the leader reconnects");
    }, AWAY_NOTICE_MS);
  }

  #stopped(reason) {
    if (!this.#isClosed) this.hooks.onStopped(reason);
  }

  // -- legs

  #receive({ from: id, attach, isMoving, confirm, commands = [], isAsking, isLeaving }) {
    if (attach) return this.#attach(id, attach, isMoving);
    const leg = this.#legs.get(id);
    if (isAsking) this.#post({ isHere: true });
    if (!leg) return isLeaving || this.#post({ to: id, end: { code: ROTATED, reason: "not known here" } });
    leg.heardMs = this.environment.now();
    if (isLeaving) this.#drop(leg);
    else if (confirm) this.#confirm(leg, confirm.subscriptions);
    for (const command of commands) this.#command(leg, command);
  }

  #attach(id, { attempt, nonce, confirm: isConfirmed, subscriptions }, isMoving) {
    if (this.#legs.has(id)) return;
    this.start();
    const refusal = this.#refusal(isMoving, subscriptions);
    if (refusal) return this.#post({ to: id, end: { reason: refusal } });
    const leg = { id, attempt, nonce, seats: new Map(), unanswered: 0, heardMs: this.environment.now() };
    this.#legs.set(id, leg);
    this.#post({ to: id, pushes: [this.#attached(leg)] });
    if (isConfirmed) this.#confirm(leg, subscriptions);
  }

  #refusal(isMoving, subscriptions) {
    const isAway = this.#client.state !== "connected";
    // Who has a connection must not give it up for one that is not there yet.
    if (isAway && isMoving) return "the leader is not connected yet";
    if (this.environment.now() - this.#awaySinceMs > AWAY_MAX_MS) return "the leader is away";
    if (this.#legs.size >= LEGS_MAX) return `${LEGS_MAX} tabs share already`;
    return subscriptions.length > CHANNELS_MAX && `more than ${CHANNELS_MAX} channels`;
  }

  /** Said again with the server's limits once they are known. The echo is left out: see pipe.js. */
  #attached({ id, attempt, nonce }) {
    const { echo_interval_s: _, ...limits } = this.#client.limits ?? {};
    return { attached: { session: id, attempt, nonce, heartbeat_interval_s: IN_GOOD_TIME_S, limits } };
  }

  async #confirm(leg, subscriptions) {
    if (this.#client.state !== "connected") await new Promise((resolve) => this.#connected.push(resolve));
    const seats = await Promise.all(subscriptions.map((from) => this.#seat(leg, from)));
    if (!this.#answer(leg, seats, ({ told }) => [this.#attached(leg), { subscribed: { channels: told } }])) return;
    leg.isReady = true;
  }

  #isOn(leg) {
    return this.#legs.get(leg.id) === leg;
  }

  /** It attaches again at once, and goes by itself where it is not served. */
  #end(leg, reason) {
    if (!this.#isOn(leg)) return;
    this.#drop(leg);
    this.#post({ to: leg.id, end: { code: ROTATED, reason } });
  }

  #drop(leg) {
    this.#legs.delete(leg.id);
    for (const name of leg.seats.keys()) this.#leave(leg, name);
  }

  #sweep() {
    this.#sweepTimer = this.environment.setTimeout(() => {
      const silentMs = this.environment.now() - SILENT_MS;
      for (const leg of this.#legs.values()) if (leg.heardMs < silentMs) this.#drop(leg);
      this.#sweep();
    }, SWEEP_MS);
  }

  // -- channels

  /** A leg's place at a channel: `{name, feed, joining}`. */
  async #seat(leg, { channel: name, ...from }) {
    this.#leave(leg, name);
    const seat = { name, feed: this.#feed(name) };
    leg.seats.set(name, seat);
    this.environment.clearTimeout(seat.feed.lingerTimer);
    seat.joining = await seat.feed.join(from);
    return seat;
  }

  #feed(name) {
    if (!this.#feeds.has(name)) {
      const feed = new Feed({
        client: this.#client,
        name,
        environment: this.environment,
        onPush: (push) => this.#post({ push }),
        onEnded: () => this.#forget(feed),
      });
      this.#feeds.set(name, feed);
    }
    return this.#feeds.get(name);
  }

  #leave(leg, name) {
    const seat = leg.seats.get(name);
    if (!seat) return;
    leg.seats.delete(name);
    seat.feed.legs.delete(leg);
    this.#linger(seat.feed);
  }

  #linger(feed) {
    this.environment.clearTimeout(feed.lingerTimer);
    if (!feed.isIdle || this.#isClosed) return;
    feed.lingerTimer = this.environment.setTimeout(() => {
      // Without a connection they all wait, and have no seats yet.
      if (this.#client.state !== "connected") this.#linger(feed);
      else if (feed.isIdle) this.#forget(feed);
    }, LINGER_MS);
  }

  #forget(feed) {
    this.environment.clearTimeout(feed.lingerTimer);
    if (this.#feeds.get(feed.name) === feed) this.#feeds.delete(feed.name);
    for (const leg of feed.legs) leg.seats.delete(feed.name);
    feed.close();
  }

  // -- commands

  async #command(leg, command) {
    const { id, n, ...rest } = command;
    const reply = (result) => this.#isOn(leg) && this.#post({ to: leg.id, pushes: [{ reply: { id, ...result } }] });
    if (leg.unanswered >= COMMANDS_MAX)
      return reply({ error: wireError(limitExceeded(`${COMMANDS_MAX} commands wait in the leader`)) });
    leg.unanswered++;
    try {
      if (rest.method === "subscribe") await this.#subscribe(leg, id, rest);
      else if (rest.method === "unsubscribe") {
        this.#leave(leg, rest.channel);
        reply({});
      } else reply(await this.#client.request(rest));
    } catch (error) {
      // The connection is gone for good, and so is this hub: the next one gets the command, with its key.
      if (!this.#isClosed && error.name !== "disconnected") reply({ error: wireError(error) });
    } finally {
      leg.unanswered--;
    }
  }

  async #subscribe(leg, id, from) {
    if (!leg.seats.has(from.channel) && leg.seats.size >= CHANNELS_MAX)
      throw limitExceeded(`${CHANNELS_MAX} channels of one tab`);
    const seat = await this.#seat(leg, from);
    const { error, position, recovered = true } = seat.joining;
    this.#answer(leg, [seat], () => [{ reply: error ? { id, error: wireError(error) } : { id, position, recovered } }]);
  }

  /**
   * In one message, and at this moment: what is told, what it brings, and from here on what all get. False when the
   * leg is gone, or has to go because it cannot be served here.
   */
  #answer(leg, seats, tell) {
    const told = [];
    const live = [];
    const publications = [];
    for (const { name, feed, joining } of seats) {
      const { position, recovered, error } = joining;
      feed.settle(joining);
      told.push(error ? { channel: name, error: error.number } : { channel: name, position, recovered });
      if (error) this.#leave(leg, name);
      // It may have left meanwhile, or sit elsewhere.
      else if (this.#isOn(leg) && leg.seats.get(name)?.joining === joining) {
        feed.legs.add(leg);
        live.push(name);
        publications.push(...joining.publications.map((publication) => ({ publication })));
      } else this.#linger(feed);
    }
    const refused = seats.find(({ joining }) => joining.refusal);
    if (refused) this.#end(leg, refused.joining.refusal);
    if (!this.#isOn(leg)) return false;
    this.#post({ to: leg.id, pushes: [...tell({ told }), ...publications], live });
    return true;
  }

  #post(message) {
    if (!this.#isClosed || message.isGone) this.#channel.postMessage({ leader: this.id, ...message });
  }
}

const limitExceeded = (detail) => new HybridError(LIMIT_EXCEEDED, "limit_exceeded", detail, { retryAfterS: RETRY_S });

/** As on the wire. What our own client found by itself may have taken effect. */
const wireError = ({ number, name, message, retryAfterS }) => ({
  number: number || OUTCOME_UNKNOWN,
  name: number ? name : "outcome_unknown",
  detail: message,
  retry_after_s: retryAfterS,
});
