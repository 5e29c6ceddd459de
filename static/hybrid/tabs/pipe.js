/**
 * A follower's leg: what ../transports/websocket.js is for a WebSocket, over the BroadcastChannel to the leader.
 *
 * seeking (attach sent) -> bound (attached: it knows its leader) -> begun (subscribed) -> ended
 *
 * A leader that is gone is no failure, and nothing to learn of the network: the leg ends as `rotated`, and the session
 * attaches anew at once, to the next leader or by itself. So the leg's own watch is kept out of it: a leader does not
 * send heartbeats, and timers of a hidden tab are a minute late. Silence is judged only after a question, when an answer
 * had its time; and that a leader is gone is mostly told by the lock.
 */

import { ROTATED } from "../codes.js";

const SEEK_MS = 300; // nobody answers: there is no leader, or a stuck one
const BEGIN_MS = 9_000; // attached, but the leader has no connection yet: after half of it or more each tries by itself
const ASK_MS = 5_000;
const ANSWER_MS = 1_000;

/** The channel that a push to all is about. */
const channelOf = (push) => Object.values(push)[0].channel;

export class Pipe {
  isBound = false;
  isEnded = false;
  #context;
  #attach;
  #leader;
  #post;
  #live = new Set(); // channels of which this leg takes what goes to all
  #heardMs = 0;
  #timer;
  #answerTimer;
  #expiresInS;

  /**
   * `context`: of a transport's `open`, see ../leg.js. `hooks`: onRefresh(pipe, command), onBegun(), onOver(): it ended,
   * whoever ended it.
   */
  constructor({ context, hooks }) {
    this.#context = context;
    this.id = context.environment.makeKey();
    this.hooks = hooks;
  }

  /** `post(message)` reaches all tabs of the group; `isMoving`: only to one that has a connection. */
  attach(post, isMoving, expiresInS) {
    this.#expiresInS = expiresInS;
    this.#post = (message) => post({ from: this.id, ...message });
    this.#arm(SEEK_MS, () => this.end({ reason: "no leader has answered" }));
    this.#attach = { attach: this.#context.attach, isMoving };
    this.#post(this.#attach);
  }

  /** Whatever is on the BroadcastChannel. */
  receive({ leader, to, pushes, live, push, end, isLeading, isGone }) {
    if (!leader || !this.#post || this.isEnded) return;
    if (isLeading) this.#elected(leader);
    if (to === this.id) this.#leader ??= leader;
    if (leader !== this.#leader || (to && to !== this.id)) return;
    this.#heard();
    if (isGone) return this.rotate("the leader is gone");
    if (end) return this.end(end);
    for (const one of pushes ?? []) this.#take(one);
    for (const channel of live ?? []) this.#live.add(channel);
    if (!push || !(push.subscribe ? this.isBound : this.#live.has(channelOf(push)))) return;
    if (push.unsubscribed) this.#live.delete(channelOf(push));
    this.#context.onPush(push);
  }

  send(commands) {
    const others = commands.filter((command) => command.method !== "refresh");
    for (const { channel } of others.filter(({ method }) => method === "unsubscribe")) this.#live.delete(channel);
    if (others.length) this.#post({ commands: others });
    for (const command of commands) if (command.method === "refresh") this.hooks.onRefresh(this, command);
    if (this.#context.environment.now() - this.#heardMs >= ANSWER_MS) this.#ask();
  }

  confirm(command) {
    this.#post({ confirm: command });
  }

  /** The session wants no more of it. */
  close() {
    if (this.#over()) this.#post?.({ isLeaving: true });
  }

  /** The answer to a command that is none of the leader's business. */
  answer(reply) {
    this.#context.onPush({ reply });
  }

  rotate(reason) {
    this.end({ code: ROTATED, reason });
  }

  end(end) {
    if (this.#over()) this.#context.onEnd(end);
  }

  #over() {
    if (this.isEnded) return false;
    this.isEnded = true;
    this.#context.environment.clearTimeout(this.#timer);
    this.#context.environment.clearTimeout(this.#answerTimer);
    this.hooks.onOver();
    return true;
  }

  #elected(leader) {
    if (this.isBound && leader !== this.#leader) this.rotate("another tab leads");
    // It did not hear us, or not as the leader.
    else if (!this.isBound) this.#post(this.#attach);
  }

  #take(push) {
    const { attached, subscribed } = push;
    if (attached && !this.isBound) {
      this.isBound = true;
      this.#arm(BEGIN_MS * (1 - this.#context.environment.random() / 2), () =>
        this.rotate("the leader is not connected yet"),
      );
    }
    if (subscribed) {
      this.hooks.onBegun();
      this.#watch();
    }
    this.#context.onPush(attached ? { attached: { ...attached, token_expires_in_s: this.#expiresInS() } } : push);
  }

  #heard() {
    const { environment } = this.#context;
    this.#heardMs = environment.now();
    environment.clearTimeout(this.#answerTimer);
    this.#answerTimer = undefined;
    this.#context.onAlive();
  }

  #watch() {
    const { environment } = this.#context;
    const silentMs = environment.now() - this.#heardMs;
    if (silentMs >= ASK_MS) this.#ask();
    this.#arm(silentMs >= ASK_MS ? ASK_MS : ASK_MS - silentMs, () => this.#watch());
  }

  #ask() {
    if (this.#answerTimer !== undefined || this.isEnded) return;
    this.#answerTimer = this.#context.environment.setTimeout(() => this.rotate("the leader is silent"), ANSWER_MS);
    this.#post({ isAsking: true });
  }

  #arm(delayMs, callback) {
    this.#context.environment.clearTimeout(this.#timer);
    this.#timer = this.#context.environment.setTimeout(callback, delayMs);
  }
}
