/**
 * The session: which leg carries it now. Has transports race, confirms the winner, moves make-before-break, comes back
 * after a loss. It knows nothing of what channels and commands mean: `hooks` does (the client).
 *
 * Correctness rests on one rule: once `confirm` is sent, only the new leg is listened to, and it goes on after the
 * positions named in that confirm. Whatever the former leg still delivers would be a repetition.
 */

import { Backoff } from "./backoff.js";
import { HybridError, OUT_OF_ORDER, REPLACED, ROTATED, SESSION_UNKNOWN } from "./codes.js";
import { isStayAway, isTokenSpent, isTransportRefused } from "./codes.js";
import { Leg } from "./leg.js";
import { probe } from "./probe.js";
import { Race } from "./race.js";
import { longpoll } from "./transports/longpoll.js";
import { sse } from "./transports/sse.js";
import { websocket } from "./transports/websocket.js";

const UPGRADE_MS = 30_000;
const UPGRADE_CEILING_MS = 600_000;
const PROBATION_MS = 2_000; // longer than what kills a WebSocket after its handshake takes
const CONFIRM_MS = 500;
const SOUND_MS = 5_000;
const CLONE_PAUSE_MS = 1_000;
const HIDDEN_MS = 5_000; // who looks at a page comes first

export class Session {
  id = "";
  lastSeq = 0;
  current;
  sound; // the transport that worked until now, if any
  modules = { __proto__: null, websocket, sse, longpoll };
  #attempt = 0;
  #candidates = new Set();
  #former;
  #backoff;
  #timer;
  #race;
  #wakes; // waiting, and nobody but us asked for it
  #upgradeTimer;
  #isOpen = false;
  #isAsleep = false;

  /**
   * `parts`: `context`, what transports need; `ladder`; `client`, what an attach tells of it; `hooks`, the client: what
   * it says of itself under "what channels and the session ask and tell".
   */
  constructor(parts) {
    Object.assign(this, parts, parts.context);
    this.context = { ...this.context, memory: this.ladder.memory, lastSeq: () => this.lastSeq };
    this.#backoff = new Backoff(this.environment.random);
  }

  start() {
    this.#isOpen = true;
    this.#isAsleep = false;
    this.#begin();
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
    leg?.onFailure({ reason: "stopped" });
    this.hooks.onStopped(error);
  }

  /**
   * Resolves when the session runs on that transport; rejects, and stays where it is, when that does not work.
   * `probationMs`: what opens must live so long before it is relied on.
   */
  move(transport, probationMs = 0) {
    return new Promise((resolve, reject) => {
      if (!this.current?.isReady) throw new HybridError(0, "disconnected", "connect first");
      this.#dismiss("another move");
      const leg = this.open(transport, false, ({ code, reason }) =>
        reject(new HybridError(code, "move_failed", reason)),
      );
      leg.onReady = resolve;
      leg.probationMs = probationMs;
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
    this.#isAsleep = false;
    if (this.#wakes) return this.#begin();
    if (this.current) this.current.isWoken = true;
    this.current?.check();
  }

  /** The page is put away: what is open would keep it out of the back/forward cache, or die unseen. */
  sleep() {
    if (!this.#isOpen || !(this.current || this.#race || this.#wakes)) return;
    this.#isAsleep = true;
    this.#clear();
    if (this.current) return this.reattach("asleep");
    this.#dismiss("asleep");
    this.#retry();
  }

  #clear() {
    this.environment.clearTimeout(this.#timer);
    this.environment.clearTimeout(this.#upgradeTimer);
    this.#wakes = false;
    this.#race?.end();
    this.#race = undefined;
  }

  /** An attempt; `onFailure(end)` is called unless the leg becomes ready. */
  open(transport, confirm, onFailure) {
    const module = this.modules[transport];
    for (const other of this.#candidates) this.ladder.failed(other.transport, "slow");
    const tried = this.ladder.tried(transport);
    const { heartbeat_s } = this.ladder.memory;
    const attach = {
      method: "attach",
      attempt: ++this.#attempt,
      nonce: this.environment.makeKey(),
      ...(this.id && this.hooks.canContinue(module) && { session: this.id, last_seq: this.lastSeq }),
      ...(confirm && { confirm }),
      ...(heartbeat_s && { heartbeat_s }),
      ...(tried.length && { tried }),
      client: this.client,
      subscriptions: this.hooks.subscriptions(),
    };
    const leg = new Leg({ transport, module, attach, context: this.context, hooks: this });
    leg.onFailure = onFailure;
    this.#candidates.add(leg);
    this.hooks.onLeg(leg, "opened");
    leg.open();
    return leg;
  }

  #begin() {
    this.#clear();
    this.#race = new Race(this);
    this.#race.start();
  }

  /** All transports have failed, for the reasons given. */
  async onFailed(attempts) {
    const reasons = attempts.map(({ transport, reason }) => `${transport}: ${reason}`);
    const unreachable = () => new HybridError(0, "unreachable", reasons.join("; "), { attempts });
    if (!this.ladder.order().length) return this.stop(unreachable());
    this.#retry(Math.max(...attempts.map(({ delayMs }) => delayMs)));
    const isReachable = await probe(this.context);
    reasons.push(isReachable ? "the server answers" : "no server");
    if (this.#isOpen && !this.current) this.hooks.onFailed(unreachable());
  }

  #retry(delayMs = 0) {
    this.#clear();
    this.#wakes = !delayMs;
    if (this.#isAsleep) return;
    // Another tab's connection costs nobody anything.
    const hiddenMs =
      this.sound !== "shared" && this.environment.isHidden() ? HIDDEN_MS * (1 + this.environment.random()) : 0;
    // A delay that the server gave is a place kept for us at that time.
    const waitMs = (delayMs || this.#backoff.next()) + hiddenMs;
    this.#timer = this.environment.setTimeout(() => this.#begin(), waitMs);
  }

  // -- what legs tell

  onAttached(leg, attached) {
    this.hooks.onAttached(attached);
    if (!this.#candidates.has(leg)) {
      // A node that did not know the polled session has made a new one. On a former leg that means nothing any more.
      if (leg === this.current) this.#adopt(leg);
      return;
    }
    this.hooks.onLeg(leg, "attached");
    if (!this.#candidates.has(leg)) return;
    // What comes in lumps opens late.
    if (leg.probationMs && leg.latencyMs > 4 * this.current.latencyMs + 1_000) return leg.end({ why: "slow" });
    // Who was first is given the time to show that it works.
    const delayMs = leg.probationMs || (!leg.attach.confirm && this.current && !this.current.isReady && CONFIRM_MS);
    if (delayMs) leg.arm(delayMs, () => this.#take(leg));
    else this.#take(leg);
  }

  /** From here on the session runs on this leg, or on none. */
  #take(leg) {
    const former = this.current;
    this.#candidates.delete(leg);
    this.current = leg;
    this.#adopt(leg);
    leg.confirm(this.hooks.subscriptions());
    if (former?.isReady) this.#former = former;
    else former?.end({ why: "held" });
  }

  /** In a new session everything is numbered anew, in both directions. */
  #adopt({ session }) {
    if (session === this.id) return;
    this.id = session;
    this.lastSeq = 0;
    this.hooks.onNewSession();
  }

  onPush(leg, push) {
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
    this.#clear();
    this.#dismiss("slow");
    this.#former?.close();
    this.#former = undefined;
    leg.ready();
    this.ladder.worked(leg.transport, leg.latencyMs);
    this.hooks.onLeg(leg, "confirmed");
    if (leg !== this.current) return;
    this.hooks.onReady(leg, subscribed);
    leg.onFailure = () => {};
    leg.onReady?.();
    if (leg === this.current) this.#upgrade(UPGRADE_MS);
  }

  /** On a lesser transport better ones are tried from time to time, ever more rarely; nobody notices a failure. */
  #upgrade(delayMs) {
    this.environment.clearTimeout(this.#upgradeTimer);
    if (!this.ladder.names.indexOf(this.current?.transport)) return;
    this.#upgradeTimer = this.environment.setTimeout(async () => {
      for (const name of this.ladder.better(this.current?.transport)) {
        if (this.#candidates.size) break;
        try {
          return await this.move(name, PROBATION_MS);
        } catch {
          // the next one
        }
      }
      if (this.#isOpen) this.#upgrade(Math.min(UPGRADE_CEILING_MS, 2 * delayMs));
    }, delayMs);
  }

  #dismiss(reason) {
    for (const leg of this.#candidates) leg.end({ reason, why: "slow" });
  }

  /** No sign of life came. After sleep that needs no explanation; otherwise it is the transport if others get through. */
  async onDoubt(leg, isStill) {
    const isFault = !leg.isWoken && (await probe(this.context));
    if (isStill()) leg.end({ reason: "silence", isOwn: !isFault, fault: isFault && "mute" });
  }

  onEnd(leg, end) {
    const { code, reason, why, comesBack } = end;
    this.hooks.onLeg(leg, code === REPLACED ? "replaced" : "lost", reason);
    if (isTokenSpent(code)) this.tokens.spend();
    if (isTransportRefused(code) || !leg.module?.isSupported(this.environment)) this.ladder.refuse(leg.transport);
    if (leg === this.#former) return (this.#former = undefined);
    const isCurrent = leg === this.current;
    this.#candidates.delete(leg);
    if (isCurrent && [SESSION_UNKNOWN, OUT_OF_ORDER].includes(code)) this.id = "";
    const isFinal = code !== REPLACED && (isStayAway(code) || (isCurrent && comesBack === false));
    if (isFinal && (isCurrent || this.#race)) {
      this.#race?.end();
      leg.onFailure(end);
      const attempts = [{ transport: leg.transport, ...end }];
      return this.stop(new HybridError(code, isCurrent ? "disconnected" : "refused", reason, { attempts }));
    }
    if (!leg.readyMs) this.ladder.failed(leg.transport, why ?? (leg.latencyMs ? "dying" : "refused"));
    if (isCurrent && (leg.readyMs || !this.#race)) return this.#lost(leg, end);
    // Beaten before it was ready: the round goes on without it.
    if (isCurrent) this.current = undefined;
    leg.onFailure(end);
  }

  #lost(leg, end) {
    const { code, reason, isOwn, fault } = end;
    const livedMs = leg.readyMs ? this.environment.now() - leg.readyMs : 0;
    this.current = undefined;
    this.#former?.close();
    this.#former = undefined;
    this.#clear();
    this.#backoff.lived(livedMs);
    this.sound = (livedMs >= SOUND_MS || leg.transport === "shared") && !fault && leg.transport;
    // A gateway that answers 503 and the like speaks of the server, not of the transport.
    if (!isOwn && (!code || code === 1006) && !(end.status >= 500))
      this.#blame(leg, { livedMs, idleMs: leg.idleMs, fault });
    this.#dismiss("lost");
    leg.onFailure(end);
    this.hooks.onLost(reason);
    if (!this.#isOpen || this.#race) return; // a listener has decided otherwise
    let { delayMs } = end;
    if (code === REPLACED && leg.attempt === this.#attempt) {
      // Somebody else goes on with our session: a cloned tab. Jitter, or two clones would meet again.
      this.id = "";
      delayMs = CLONE_PAUSE_MS * (0.5 + this.environment.random());
    }
    if (code === ROTATED && !delayMs && livedMs >= CLONE_PAUSE_MS) this.#begin();
    else this.#retry(delayMs);
  }

  async #blame(leg, story) {
    if (story.fault || (await probe(this.context))) this.ladder.broke(leg, story);
  }
}
