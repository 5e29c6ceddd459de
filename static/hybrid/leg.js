/**
 * One open transport of a session, from the attach to its end. It proves itself by the echoed nonce, watches for
 * silence, and tells its session what it hears. It decides nothing about channels or other legs.
 *
 * opening -> candidate (attached) -> current (confirm sent) -> ready (subscribed) -> ended
 */

import { HybridError, endOf } from "./codes.js";

const SILENCE_INTERVALS = 2.5;
const OPENING_TIMEOUT_MS = 10_000; // the life of a candidate on the server

export class Leg {
  state = "opening";
  session = "";
  limits = {};
  #pipe;
  #timer;
  #heardMs;
  #beatMs;

  /**
   * `transport`: its name; `module`: {isSupported, open}; `attach`: the command; `context`: what all pipes are given;
   * `hooks`: {onAttached(leg, attached), onPush(leg, push), onEnd(leg, end)}, end being {code, reason, delayMs, ...}.
   */
  constructor({ transport, module, attach, context, hooks }) {
    Object.assign(this, { transport, module, attach, context, hooks, attempt: attach.attempt });
    this.environment = context.environment;
    this.startedMs = this.#heardMs = this.environment.now();
  }

  open() {
    if (!this.module?.isSupported(this.environment)) return this.end({ reason: "not supported here" });
    this.#arm(OPENING_TIMEOUT_MS, () =>
      this.end({ reason: `nothing came back within ${OPENING_TIMEOUT_MS / 1000} s` }),
    );
    this.#pipe = this.module.open({
      ...this.context,
      attach: this.attach,
      session: () => this.session,
      onAlive: () => this.#alive(),
      onPush: (push) => this.state !== "ended" && this.#push(push),
      onEnd: (end) => this.end(end),
    });
  }

  get isPolled() {
    return Boolean(this.module.isPolled);
  }

  get isReady() {
    return this.state === "ready";
  }

  /** From here on publications are taken from this leg. `subscriptions` as they stand at this moment. */
  confirm(subscriptions) {
    this.state = "current";
    // What attached but then never says `subscribed` is as useless as what never attached.
    this.#arm(OPENING_TIMEOUT_MS, () => this.end({ reason: "confirmed, then nothing" }));
    if (!this.attach.confirm) this.#pipe.confirm({ method: "confirm", attempt: this.attempt, subscriptions });
  }

  ready() {
    this.state = "ready";
    this.readyMs = this.environment.now();
    this.#arm(this.intervalMs / 2, () => this.check());
  }

  send(commands) {
    this.#pipe.send(commands);
  }

  /** Drops the leg if it has been silent too long. Also called after sleep, when timers come late or not at all. */
  check() {
    if (!this.isReady) return;
    if (this.environment.now() - this.#heardMs >= SILENCE_INTERVALS * this.intervalMs)
      return this.end({ reason: "silence" });
    this.#beat();
    this.#arm(this.intervalMs / 2, () => this.check());
  }

  /** Ends the leg and says so; once. */
  end({ code = 0, reason = "", delayMs = 0, ...verdict }) {
    if (this.close()) this.hooks.onEnd(this, { code, reason, delayMs, ...verdict });
  }

  /** Ends the leg without a word to its session. False when it has ended before. `isGoodbye`: the session ends too. */
  close(isGoodbye = false) {
    if (this.state === "ended") return false;
    this.state = "ended";
    this.environment.clearTimeout(this.#timer);
    this.#pipe?.close(isGoodbye);
    return true;
  }

  #arm(delayMs, callback) {
    this.environment.clearTimeout(this.#timer);
    this.#timer = this.environment.setTimeout(callback, delayMs);
  }

  #alive() {
    this.#heardMs = this.environment.now();
    this.#beat();
  }

  /** Beats are sent from what arrives as well: the timers of a hidden tab may be a minute late. */
  #beat() {
    const now = this.environment.now();
    if (!this.isReady || !this.#pipe.beats || now - this.#beatMs < this.intervalMs) return;
    this.#beatMs = now;
    this.#pipe.send([{ method: "heartbeat", last_seq: this.context.lastSeq() }]);
  }

  #push(push) {
    const { attached, disconnect, reply } = push;
    // Attach and confirm have no id: an error that answers nothing else is about them.
    if (reply?.error && !reply.id) return this.end(endOf(HybridError.fromWire(reply.error)));
    if (disconnect) {
      const { code, reason, reconnect: comesBack = true, delay_ms: delayMs } = disconnect;
      return this.end({ code, reason, delayMs, comesBack });
    }
    if (!attached) return this.hooks.onPush(this, push);
    if (this.state === "opening" && attached.nonce !== this.attach.nonce) return this.end({ reason: "not our nonce" });
    this.session = attached.session;
    this.limits = attached.limits;
    this.intervalMs = attached.heartbeat_interval_s * 1000;
    this.#beatMs ??= this.environment.now();
    if (this.state === "opening") this.state = "candidate";
    this.hooks.onAttached(this, attached);
  }
}
