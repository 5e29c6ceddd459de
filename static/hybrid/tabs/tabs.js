/**
 * This client's place among the tabs: which group it belongs to, whether it leads, and when it comes (back) to the
 * shared connection.
 *
 * Whoever holds the group's lock leads, and all others wait for it: so a leader that closes, crashes or navigates away
 * is followed by the next one within milliseconds, and without timers. A leader that is stuck keeps the lock; its
 * followers find it silent, and pass it by until it speaks again.
 *
 * alone (leads, serves nobody) -> leads (another tab has attached) ; waits (another tab leads) -> leads
 */

import { Hub } from "./hub.js";
import { claimsOf, groupName } from "./name.js";
import { Pipe } from "./pipe.js";

const RETURN_MS = 1_000; // and longer each time that it does not last
const RETURN_MAX_MS = 300_000;
const LASTING_MS = 30_000;
const LEADERS_QUEUE_MAX = 4_096;
const UNFIT_MS = 60_000; // not to lead again, after the server has sent us away

export class Tabs {
  #group;
  #pipes = new Set();
  #unlisten;
  #isSuspended = false;
  #returnTimer;
  #returnMs = RETURN_MS;
  #sharedMs;
  #unfitMs = -Infinity;

  /**
   * `sharing`: see ../sharing.js. Its `environment` has `locks`, and for tests `BroadcastChannel` and `digest`.
   */
  constructor(sharing) {
    this.sharing = sharing;
    this.client = sharing.client;
    this.environment = { BroadcastChannel: globalThis.BroadcastChannel, ...sharing.options["environment"] };
    this.client.on("state", ({ state }) => state === "disconnected" && this.#leave());
  }

  /** As a transport's `open`. */
  open(context) {
    const pipe = new Pipe({
      context,
      hooks: {
        onRefresh: (pipe, command) => this.#refresh(pipe, command),
        onBegun: () => (this.#sharedMs = this.environment.now()),
        onOver: () => this.#over(pipe),
      },
    });
    this.#unlisten ??= this.environment.onWake(
      () => this.#resume(),
      () => this.#suspend(),
    );
    this.#pipes.add(pipe);
    this.#seek(pipe, context.tokens).catch((error) => pipe.end({ reason: error.message }));
    return {
      send: (commands) => pipe.send(commands),
      confirm: (command) => pipe.confirm(command),
      close: () => pipe.close(),
    };
  }

  /** The client is disconnected: it neither leads nor follows, until it opens a leg again. */
  #leave() {
    this.#unlisten?.();
    this.#unlisten = undefined;
    this.#isSuspended = false;
    this.environment.clearTimeout(this.#returnTimer);
    this.#quit();
  }

  async #seek(pipe, tokens) {
    const token = await tokens.get();
    const name = await this.#name(token);
    if (pipe.isEnded) return;
    if (!name) return pipe.end({ reason: "the token cannot be told from others here" });
    if (name !== this.#group?.name) this.#quit();
    const group = (this.#group ??= this.#join(name));
    group.token = token;
    if (!group.abort && this.environment.now() - this.#unfitMs >= UNFIT_MS) this.#candidate(group);
    if (group.hub && !group.hub.isServing) return pipe.end({ reason: "this tab leads, and is alone" });
    pipe.group = group;
    pipe.tokens = tokens;
    // Who has a connection must not give it up for one that is not there yet.
    const isMoving = Boolean(this.client.transport);
    pipe.attach(group.post, isMoving, () => secondsLeft(token, this.environment.now()));
  }

  #name(token) {
    const { url, transports } = this.sharing.options;
    const { location, digest } = this.environment;
    return groupName({ url: new URL(url, location).href, transports, token, digest });
  }

  // -- the group

  #join(name) {
    const { BroadcastChannel } = this.environment;
    const channel = new BroadcastChannel(name);
    const group = { name, channel, post: (message) => group.isLeft || channel.postMessage(message) };
    channel.onmessage = ({ data }) => {
      for (const pipe of this.#pipes) pipe.receive(data);
      if (data.isLeading && data.leader !== group.hub?.id) this.#return(RETURN_MS);
    };
    return group;
  }

  /** Waits for the lock, and has it until the group is left or the leadership is given up. */
  #candidate(group) {
    const aborter = new AbortController();
    const until = new Promise((resolve) => (group.release = resolve));
    const granted = () => {
      if (!aborter.signal.aborted) this.#lead(group);
      return until;
    };
    group.abort = () => {
      aborter.abort();
      group.release();
    };
    this.environment.locks.request(group.name, { signal: aborter.signal }, granted).catch(() => {}); // aborted
  }

  #lead(group) {
    const { environment } = this;
    group.hub = new Hub({
      id: environment.makeKey(),
      channel: new environment.BroadcastChannel(group.name),
      environment,
      makeClient: () => this.#makeClient(group),
      hooks: {
        onConnected: () => this.#return(0),
        onStopped: () => {
          // The server does not want us; with another's token it may be different.
          this.#unfitMs = environment.now();
          this.#resign(group);
        },
      },
    });
    // The group has lived before: the others are coming, and so do we.
    const pipes = [...this.#pipes].filter((pipe) => pipe.group === group);
    if (group.hasFollowed || pipes.some(({ isBound }) => isBound)) group.hub.start();
    else for (const pipe of pipes) pipe.end({ reason: "this tab leads, and is alone" });
  }

  /** One that shares with nobody, and has the commands of all. */
  #makeClient(group) {
    const { options } = this.sharing;
    const getToken = options.getToken && (() => this.#leadersToken(group));
    // Others may be looked at while this tab is hidden.
    const environment = { ...this.environment, isHidden: () => false };
    const more = { getToken, ["environment"]: environment, queueMax: LEADERS_QUEUE_MAX };
    return new this.client.constructor({ ...options, ...more });
  }

  /** Never another party's: what followers publish is published by this connection. */
  async #leadersToken(group) {
    const known = group.token;
    group.token = undefined;
    const token = known || (await this.sharing.options.getToken());
    if ((await this.#name(token)) === group.name) return token;
    this.#resign(group);
    throw new Error("the token is another party's now");
  }

  #resign(group) {
    group.hub?.close();
    group.hub = undefined;
    group.abort?.();
    group.abort = undefined;
  }

  #quit() {
    const group = this.#group;
    if (!group) return;
    this.#group = undefined;
    for (const pipe of this.#pipes) if (pipe.group === group) pipe.rotate("the tab leaves its group");
    this.#resign(group);
    group.isLeft = true;
    group.channel.close();
  }

  // -- this client's own legs

  async #refresh(pipe, { id }) {
    const token = await pipe.tokens.get(); // as it was asked for a moment ago
    const name = await this.#name(token);
    pipe.answer({ id, token_expires_in_s: secondsLeft(token, this.environment.now()) });
    if (name !== pipe.group.name) pipe.rotate("the token is another party's now");
  }

  #over(pipe) {
    this.#pipes.delete(pipe);
    if (pipe.isBound) pipe.group.hasFollowed = true;
    const lastedMs = this.environment.now() - (this.#sharedMs ?? Infinity);
    this.#sharedMs = undefined;
    this.#returnMs = lastedMs >= LASTING_MS ? RETURN_MS : Math.min(RETURN_MAX_MS, 2 * this.#returnMs);
    this.#return(this.#returnMs);
  }

  /** Looks for the leader again, from a connection of its own. Spread, for others do the same. */
  #return(delayMs) {
    const { environment } = this;
    environment.clearTimeout(this.#returnTimer);
    if (!this.#unlisten || this.#isSuspended) return;
    this.#returnTimer = environment.setTimeout(
      () => {
        const { transport } = this.client;
        const hub = this.#group?.hub;
        if (transport === "shared" || !this.sharing.isWanted || (hub && !hub.isServing)) return;
        if (transport)
          this.client.moveTo("shared").catch(() => {}); // where it fails, its leg has seen to the next try
        else this.#return(RETURN_MS);
      },
      delayMs * (0.5 + environment.random()),
    );
  }

  // -- the page: put away, it would keep the lock, and mute the others

  #suspend() {
    if (this.#isSuspended) return;
    this.#isSuspended = true;
    this.environment.clearTimeout(this.#returnTimer);
    this.#quit();
  }

  #resume() {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    this.#return(RETURN_MS);
  }
}

/** Of a JWT; undefined where nobody says it. */
const secondsLeft = (token, nowMs) => {
  const { exp } = claimsOf(token) ?? {};
  return exp && exp - nowMs / 1000;
};
