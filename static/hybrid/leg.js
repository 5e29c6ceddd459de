/**
 * One open transport of a session, from the attach to its end. It proves itself by the echoed nonce, asks for a sign of
 * life when it has a doubt, and tells its session what it hears. It decides nothing about channels or other legs.
 *
 * opening -> attached (a candidate) -> confirmed -> ready (subscribed) -> ended
 */

import { HybridError, endOf } from "./codes.js";

const SILENCE_INTERVALS = 1.25; // a heartbeat is overdue: ask
const OPENING_TIMEOUT_MS = 10_000; // the life of a candidate on the server
const DEAD_INTERVALS = 2.5; // the server has given us up by then
const PATIENCE_MS = 2_000;
const QUIET_MS = 5_000;

export class Leg {
  session = ""; // until it is attached
  isReady = false;
  #isEnded = false;
  limits = {};
  #pipe;
  #timer;
  #heardMs;
  #beatMs;
  #echoes = 0;
  #askedMs; // a question is open since

  /**
   * `transport`: its name; `module`: {isSupported, open}; `attach`: the command; `context`: what all pipes are given;
   * `hooks`: {onAttached(leg, attached), onPush(leg, push), onDoubt(leg), onEnd(leg, end)}, end being
   * {code, reason, delayMs} and what is known besides: `isOwn` (we ended it), `why` it never worked, ...
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.attempt = this.attach.attempt;
    this.environment = this.context.environment;
    this.startedMs = this.#heardMs = this.environment.now();
  }

  open() {
    if (this.#isEnded) return;
    if (!this.module?.isSupported(this.environment)) return this.end({ why: "unsupported" });
    this.arm(OPENING_TIMEOUT_MS, () => this.end({ reason: "no answer within 10 s", why: "mute" }));
    this.#pipe = this.module.open({
      ...this.context,
      attach: this.attach,
      session: () => this.session,
      onAlive: () => this.#alive(),
      onPush: (push) => this.#isEnded || this.#push(push),
      onEnd: (end) => this.end(end),
    });
  }

  get isPolled() {
    return this.module.isPolled;
  }

  /** A sign of life was asked for, and has not come. */
  get isInDoubt() {
    return this.#askedMs !== undefined && this.isReady;
  }

  /** For how long nothing has been heard. */
  get idleMs() {
    return this.environment.now() - this.#heardMs;
  }

  /** From here on publications are taken from this leg. `subscriptions` as they stand at this moment. */
  confirm(subscriptions) {
    // What attached but then never says `subscribed` is as useless as what never attached.
    this.arm(this.onReady ? this.patienceMs : OPENING_TIMEOUT_MS, () =>
      this.end({ why: "held", fault: this.onReady && "held" }),
    );
    if (!this.attach.confirm) this.#pipe.confirm({ method: "confirm", attempt: this.attempt, subscriptions });
  }

  ready() {
    this.isReady = true;
    this.readyMs = this.environment.now();
    // What comes with the next event only (some virus scanners do that) has come this far; by itself it will not.
    if (this.isPolled) this.#watch();
    else this.check();
  }

  send(commands) {
    this.#pipe.send(commands);
    // Where nothing has come for a while, what is answered by nobody would be noticed by the next heartbeat only.
    if (this.idleMs >= QUIET_MS && !this.isPolled) this.check();
  }

  /** Asks for a sign of life. Also called after sleep, when sockets are open but dead and timers come late. */
  check() {
    if (!this.isReady || this.isInDoubt) return;
    if (!this.isPolled) {
      if (this.idleMs >= DEAD_INTERVALS * this.intervalMs) return this.end({ reason: "silence", isOwn: true });
      if (!this.limits.echo_interval_s) return this.#watch(); // a server that cannot answer
    }
    this.#askedMs = this.environment.now();
    this.#echoes++;
    this.#pipe.ask({ method: "heartbeat", last_seq: this.context.lastSeq(), echo: this.#echoes });
    this.#doubt(this.patienceMs);
  }

  /** Ends the leg and says so; once. */
  end(verdict) {
    if (this.close()) this.hooks.onEnd(this, { code: 0, reason: verdict.why, delayMs: 0, ...verdict });
  }

  /** Ends the leg without a word to its session. False when it has ended before. `isGoodbye`: the session ends too. */
  close(isGoodbye = false) {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    this.isReady = false;
    this.environment.clearTimeout(this.#timer);
    this.#pipe?.close(isGoodbye);
    return true;
  }

  /** Calls back later, instead of whatever was to be called; not behind the leg's end. */
  arm(delayMs, callback) {
    this.environment.clearTimeout(this.#timer);
    this.#timer = this.environment.setTimeout(callback, delayMs);
  }

  #watch() {
    this.arm(this.intervalMs / 4, () => {
      const silenceMs = this.#pipe.waitMs?.() ?? SILENCE_INTERVALS * this.intervalMs;
      if (this.idleMs >= silenceMs) return this.check();
      this.#beat();
      this.#watch();
    });
  }

  /** Where much is on its way, the answer is behind it: as long as anything comes there is hope. */
  #doubt(delayMs) {
    this.arm(delayMs, () => {
      const quietMs = Math.min(this.idleMs, this.environment.now() - this.#askedMs);
      if (quietMs < this.patienceMs) this.#doubt(this.patienceMs - quietMs);
      else {
        const asked = this.#echoes;
        this.hooks.onDoubt(this, () => this.isInDoubt && asked === this.#echoes);
      }
    });
  }

  #relieve() {
    if (!this.isInDoubt) return;
    this.#askedMs = undefined;
    this.isWoken = false;
    this.#watch();
  }

  #alive() {
    this.#heardMs = this.environment.now();
    this.#beat();
    if (this.isPolled) this.#relieve();
  }

  /** Beats are sent from what arrives as well: the timers of a hidden tab may be a minute late. */
  #beat() {
    const now = this.environment.now();
    if (!this.isReady || !this.#pipe.beats || now - this.#beatMs < this.intervalMs) return;
    this.#beatMs = now;
    this.#pipe.send([{ method: "heartbeat", last_seq: this.context.lastSeq() }]);
  }

  #push(push) {
    const { attached, disconnect, reply, heartbeat } = push;
    // Attach and confirm have no id: an error that answers nothing else is about them.
    if (reply?.error && !reply.id)
      return this.isReady ? this.#relieve() : this.end(endOf(HybridError.fromWire(reply.error)));
    if (disconnect) {
      const { code, reason, reconnect: comesBack = true, delay_ms: delayMs = 0 } = disconnect;
      return this.end({ code, reason, delayMs, comesBack });
    }
    if (heartbeat) return heartbeat.echo === this.#echoes && this.#relieve();
    if (!attached) return this.hooks.onPush(this, push);
    const isFirst = !this.session;
    if (isFirst && attached.nonce !== this.attach.nonce) return this.end({ reason: "not our nonce" });
    this.session = attached.session;
    this.limits = attached.limits;
    this.intervalMs = attached.heartbeat_interval_s * 1000;
    const now = this.environment.now();
    this.#beatMs ??= now;
    if (isFirst) {
      this.latencyMs = now - this.startedMs;
      this.patienceMs = PATIENCE_MS + Math.min(PATIENCE_MS, 2 * this.latencyMs);
    }
    this.hooks.onAttached(this, attached);
  }
}
