/**
 * The session: which leg carries it now. Races transports, confirms the winner, moves make-before-break, comes back
 * after a loss. It knows nothing of what channels and commands mean: `hooks` does (the client).
 *
 * Correctness rests on one rule: once `confirm` is sent, only the new leg is listened to, and it goes on after the
 * positions named in that confirm. Whatever the former leg still delivers would be a repetition.
 */

import { Backoff } from "./backoff.js";
import { HybridError, OUT_OF_ORDER, REPLACED, ROTATED, SESSION_UNKNOWN } from "./codes.js";
import { isStayAway, isTokenSpent, isTransportRefused } from "./codes.js";
import { Leg } from "./leg.js";
import * as longpoll from "./transports/longpoll.js";
import * as sse from "./transports/sse.js";
import * as websocket from "./transports/websocket.js";

const modules = new Map(Object.entries({ websocket, sse, longpoll }));

const HEAD_START_MS = 500; // a WebSocket that works needs less; more would be felt where it does not
const PROBE_MS = 30_000;
const PROBE_CEILING_MS = 600_000;
const CLONE_PAUSE_MS = 1_000;

export class Session {
  id = "";
  lastSeq = 0;
  current;
  #attempt = 0;
  #candidates = new Set();
  #former;
  #backoff;
  #timer;
  #round; // the race that is on
  #wakes; // waiting, and nobody but us asked for it
  #probeTimer;
  #isOpen = false;

  /**
   * `hooks`: subscriptions(), canContinue(module), onNewSession(), onReady(leg, subscribed), onSubscribed(subscribed),
   * onPush(leg, push), onLost(end), onFailed(error), onStopped(error?), onAttached(attached),
   * onLeg(leg, event, reason).
   */
  constructor({ context, ladder, client, hooks }) {
    Object.assign(this, { ladder, client, hooks, environment: context.environment, tokens: context.tokens });
    this.context = { ...context, lastSeq: () => this.lastSeq };
    this.#backoff = new Backoff(this.environment.random);
  }

  start() {
    this.#isOpen = true;
    this.#race();
  }

  /** Ends everything for good, or until the next `start`: that will be a new session. */
  stop(error) {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#clear();
    this.#dismiss("stopped");
    const leg = this.current;
    this.#former?.close();
    leg?.close(true);
    this.current = this.#former = undefined;
    this.id = "";
    leg?.onFailure?.({ reason: "stopped" });
    this.hooks.onStopped(error);
  }

  /** Resolves when the session runs on that transport; rejects, and stays where it is, when that does not work. */
  move(transport) {
    return new Promise((resolve, reject) => {
      if (!this.current?.isReady) throw new HybridError(0, "disconnected", "nothing to move: not connected");
      this.#dismiss("another move began");
      const leg = this.#open(transport, false, ({ code, reason }) =>
        reject(new HybridError(code, "move_failed", reason)),
      );
      leg.onReady = resolve;
    });
  }

  /** The current leg is of no use any more: attach again from the positions. */
  reattach(reason) {
    this.current?.end({ reason, isOwn: true });
  }

  /** Attach again as a new client: the server and we disagree about this session. */
  renew(reason) {
    this.id = "";
    this.reattach(reason);
  }

  /** The network or the page is back. A delay that the server asked for is kept all the same. */
  wake() {
    if (this.#wakes) this.#race();
    else this.current?.check();
  }

  #wait(delayMs, callback) {
    this.environment.clearTimeout(this.#timer);
    this.#timer = this.environment.setTimeout(callback, delayMs);
  }

  #clear() {
    this.environment.clearTimeout(this.#timer);
    this.environment.clearTimeout(this.#probeTimer);
    this.#wakes = false;
    this.#round = undefined;
  }

  #open(transport, confirm, onFailure) {
    const module = modules.get(transport);
    const attach = {
      method: "attach",
      attempt: ++this.#attempt,
      nonce: this.environment.makeKey(),
      ...(this.id && this.hooks.canContinue(module) && { session: this.id, last_seq: this.lastSeq }),
      ...(confirm && { confirm }),
      client: this.client,
      subscriptions: this.hooks.subscriptions(),
    };
    const leg = new Leg({
      transport,
      module,
      attach,
      context: this.context,
      hooks: {
        onAttached: (leg, attached) => this.#attached(leg, attached),
        onPush: (leg, push) => this.#push(leg, push),
        onEnd: (leg, end) => this.#ended(leg, end),
      },
    });
    leg.onFailure = onFailure;
    this.#candidates.add(leg);
    this.hooks.onLeg(leg, "opened");
    leg.open();
    return leg;
  }

  /** Transports start one after another, each after a head start or when the one before failed; first nonce wins. */
  #race() {
    this.#clear();
    const names = this.ladder.order();
    const isSure = names.length === 1 || names[0] === this.ladder.remembered;
    const failures = [];
    const round = (this.#round = {});
    let inAir = 0;
    const next = () => {
      this.environment.clearTimeout(this.#timer);
      const name = names.shift();
      if (!name) return inAir || this.#failed(failures);
      if (names.length) this.#wait(HEAD_START_MS, next);
      inAir++;
      this.#open(name, isSure && inAir === 1 && !failures.length, (end) => {
        if (this.#round !== round) return; // won, or called off
        inAir--;
        failures.push({ transport: name, ...end });
        if (isStayAway(end.code)) this.stop(new HybridError(end.code, "refused", end.reason, { attempts: failures }));
        else next();
      });
    };
    next();
  }

  #failed(attempts) {
    const reasons = attempts.map(({ transport, reason }) => `${transport}: ${reason}`).join("; ");
    const error = new HybridError(0, "unreachable", reasons || "no transport is left", { attempts });
    if (!this.ladder.order().length) return this.stop(error);
    this.hooks.onFailed(error);
    this.#retry(Math.max(...attempts.map(({ delayMs }) => delayMs)));
  }

  #retry(delayMs = 0) {
    this.#wakes = !delayMs;
    this.#wait(Math.max(delayMs, this.#backoff.next()), () => this.#race());
  }

  #attached(leg, attached) {
    this.hooks.onAttached(attached);
    if (!this.#candidates.delete(leg)) {
      // A node that did not know the polled session has made a new one. On a former leg that means nothing any more.
      if (leg === this.current) this.#adopt(leg);
      return;
    }
    this.hooks.onLeg(leg, "attached");
    this.#clear();
    this.#former?.close();
    this.#former = this.current;
    this.current = leg;
    this.#dismiss("another was first");
    this.#adopt(leg);
    leg.confirm(this.hooks.subscriptions());
  }

  /** In a new session everything is numbered anew, in both directions. */
  #adopt({ session }) {
    if (session === this.id) return;
    this.id = session;
    this.lastSeq = 0;
    this.hooks.onNewSession();
  }

  #push(leg, push) {
    // An answer counts on whatever leg it comes; everything else only on the current one.
    if (push.reply) return this.hooks.onPush(leg, push);
    if (leg !== this.current) return;
    if (push.seq) {
      if (push.seq <= this.lastSeq) return;
      this.lastSeq = push.seq;
    }
    if (!push.subscribed) this.hooks.onPush(leg, push);
    else if (leg.isReady) this.hooks.onSubscribed(push.subscribed);
    else this.#ready(leg, push.subscribed);
  }

  #ready(leg, subscribed) {
    leg.ready();
    this.#former?.close();
    this.#former = undefined;
    this.ladder.worked(leg.transport);
    this.hooks.onLeg(leg, "confirmed");
    this.hooks.onReady(leg, subscribed);
    leg.onFailure = undefined;
    leg.onReady?.();
    this.#probe(PROBE_MS);
  }

  /** On a lesser transport better ones are tried from time to time, ever more rarely; nobody notices a failure. */
  #probe(delayMs) {
    this.environment.clearTimeout(this.#probeTimer);
    if (!this.ladder.better(this.current?.transport).length) return;
    this.#probeTimer = this.environment.setTimeout(async () => {
      for (const name of this.ladder.better(this.current?.transport)) {
        const isMoved = await this.move(name).then(
          () => true,
          () => false,
        );
        if (isMoved) return;
      }
      if (this.#isOpen) this.#probe(Math.min(PROBE_CEILING_MS, 2 * delayMs));
    }, delayMs);
  }

  #dismiss(reason) {
    for (const leg of this.#candidates) {
      this.#candidates.delete(leg);
      leg.close();
      this.hooks.onLeg(leg, "lost", reason);
      leg.onFailure?.({ code: 0, reason, delayMs: 0 });
    }
  }

  #ended(leg, end) {
    this.hooks.onLeg(leg, end.code === REPLACED ? "replaced" : "lost", end.reason);
    if (isTokenSpent(end.code)) this.tokens.spend();
    if (isTransportRefused(end.code) || !leg.module?.isSupported(this.environment)) this.ladder.refuse(leg.transport);
    if (leg === this.#former) this.#former = undefined;
    if (leg === this.current) this.#lost(leg, end);
    else if (this.#candidates.delete(leg)) leg.onFailure?.(end);
  }

  #lost(leg, end) {
    const { code, reason, comesBack, isOwn } = end;
    const livedMs = leg.readyMs ? this.environment.now() - leg.readyMs : 0;
    this.current = undefined;
    this.#former?.close();
    this.#clear();
    this.#backoff.lived(livedMs);
    if (!isOwn && (!code || code === 1006)) this.ladder.broke(leg.transport, livedMs);
    this.#dismiss("the session lost its leg");
    leg.onFailure?.(end);
    if (code !== REPLACED && (isStayAway(code) || comesBack === false))
      return this.stop(new HybridError(code, "disconnected", reason));
    this.hooks.onLost(end);
    if (!this.#isOpen || this.#round) return; // a listener has decided otherwise
    let { delayMs } = end;
    if ([SESSION_UNKNOWN, OUT_OF_ORDER].includes(code)) this.id = "";
    if (code === REPLACED && leg.attempt === this.#attempt) {
      // Somebody else goes on with our session: a cloned tab. Jitter, or two clones would meet again.
      this.id = "";
      delayMs = CLONE_PAUSE_MS * (0.5 + this.environment.random());
    }
    if (code === ROTATED && !delayMs) this.#race();
    else this.#retry(delayMs);
  }
}
