/**
 * Which transport to try next. Decided by what was measured here, never by the name of a browser or a proxy.
 *
 * A transport that a network is seen to spoil is tried last for a while that grows: 30 s, 5 min, 50 min, ..., a day. A
 * life of a minute wipes that out. Whether it was the network is found out before (`probe.js`): a server's restart
 * fails every transport alike and demotes none.
 */

const DEMOTION_MS = 30_000;
const DEMOTION_CEILING_MS = 86_400_000;
const SOUND_LIFE_MS = 60_000;
const PROVEN_LIFE_MS = 10_000;
const FORGIVEN_MS = 600_000;
const CUT_MIN_MS = 900; // a silence before the end that may be why
const IDLE_MIN_MS = 8_000; // legs that are cut sooner cannot be kept by heartbeats
const HEARTBEAT_MIN_S = 5;
const MARGIN = 0.6; // of the silence that was not survived: a network's patience varies

export class Ladder {
  #reasons = {};
  #strikes = {};
  #pinned;

  /** `names` in order of preference; `memory`: see memory.js. */
  constructor(names, memory, now) {
    Object.assign(this, { names, memory, now });
  }

  /** The transports to try, in order: the one asked for, what worked last, then by preference; spoilt ones last. */
  order() {
    const { transport } = this.memory;
    const rank = (name) => 10 * this.isDemoted(name) - 2 * (name === this.#pinned) - (name === transport);
    return [...this.names].sort((a, b) => rank(a) - rank(b));
  }

  /** Those preferred to `name` that deserve a try from time to time. */
  better(name) {
    return name === this.#pinned ? [] : this.#above(name).filter((other) => !this.isDemoted(other));
  }

  /** What an attach tells of the transports preferred to `name`: why they are not used. */
  tried(name) {
    return this.#above(name).flatMap((other) => this.#reasons[other] ?? []);
  }

  /** The application chose: this first, and no looking for better ones. */
  pin(name) {
    this.#pinned = name;
  }

  worked(transport, latencyMs) {
    if (!this.names.includes(transport)) return; // over another tab's connection
    delete this.#reasons[transport];
    this.memory.keep({ transport, latency_ms: latencyMs });
  }

  /** It did not work this time. `reason`: a word of the protocol. */
  failed(transport, reason) {
    this.#reasons[transport] = { transport, reason };
  }

  /** Never again in this client's life: it is not there, or it was told that its frames are wrong. */
  refuse(name) {
    this.names = this.names.filter((other) => other !== name);
  }

  /**
   * The network has ended a leg: after `livedMs`, the last `idleMs` of which nothing passed. `fault`: it went deaf
   * without an end that could be heard, from then on ("mute") or behind the attach ("held").
   */
  broke({ transport, isPolled, intervalMs }, { livedMs, idleMs, fault }) {
    if (isPolled) return; // polls mend themselves, and there is nothing below them
    if (idleMs >= IDLE_MIN_MS) {
      // Cut in a silence: a shorter one may be survived. Where it went deaf, nobody knows when.
      const boundMs = fault ? intervalMs / 2 : idleMs * MARGIN;
      const heartbeat_s = Math.max(HEARTBEAT_MIN_S, Math.floor(boundMs / 1000));
      if (heartbeat_s * 1000 < intervalMs) return this.memory.keep({ heartbeat_s });
    }
    const now = this.now();
    if (livedMs >= SOUND_LIFE_MS && !fault) delete this.#strikes[transport];
    // What worked and then went deaf may have lost its network, not its transport; so often a network does not change.
    else if (fault && livedMs >= PROVEN_LIFE_MS && !(now - this.#strikes[transport]?.atMs < FORGIVEN_MS))
      this.#strikes[transport] = { count: 0, atMs: now };
    else if (fault || idleMs < CUT_MIN_MS) this.#strike(transport, fault ?? "dying");
    // Who cuts a stream for its silence cuts the other kind as well.
    else for (const name of this.names) if (name !== "longpoll") this.#strike(name, "idle_cut");
  }

  /** Was seen to be spoilt, not long ago. */
  isDemoted(name) {
    const { count, atMs } = this.#strikes[name] ?? {};
    return count > 0 && this.now() - atMs < Math.min(DEMOTION_CEILING_MS, DEMOTION_MS * 10 ** (count - 1));
  }

  #above(name) {
    return this.names.slice(0, Math.max(0, this.names.indexOf(name)));
  }

  #strike(name, reason) {
    this.failed(name, reason);
    const { count = 0 } = this.#strikes[name] ?? {};
    this.#strikes[name] = { count: count + 1, atMs: this.now() };
    if (this.memory.transport === name) this.memory.keep({ transport: undefined });
  }
}
