/**
 * A server in memory that keeps docs/protocol.md, section B: logs, sessions, candidate and confirm, numbered commands
 * and pushes, sealed lists, tokens. What carries it is in network.js. It knows a connection only as
 * `{transport, write(push), end(code, reason)}`.
 */

import { Log } from "./log.js";

const NAMES = {
  3400: "bad_request",
  3401: "unauthorized",
  3403: "forbidden",
  3404: "session_unknown",
  3405: "method_unknown",
  3406: "not_found",
  3409: "out_of_order",
  3410: "unrecoverable",
  3411: "already_subscribed",
  3412: "not_subscribed",
  3415: "key_conflict",
  3503: "broker_unavailable",
  4401: "token_expired",
  4409: "heartbeat_timeout",
  4411: "candidate_timeout",
  4500: "protocol_error",
  4501: "token_refused",
  4509: "replaced",
};

export const wireError = (number) => ({ number, name: NAMES[number] });

export class FakeServer {
  logs = new Map();
  sessions = new Map();
  tokens = new Map(); // token -> the time of its end
  denied = new Set(); // channels that may not be read or written
  calls = new Map(); // name -> what answers it
  failing = new Map(); // channel -> how many more subscribes fail with 3503
  received = []; // every command, in order, for tests to look at
  /** Each publication on its way to a stream passes here: [] loses it, [p, p] repeats it. */
  mangle = (publication) => [publication];
  isAnonymousAllowed = true;
  #keys = new Map();
  #results = new Map(); // key -> what a call gave
  #ids = 0;

  constructor({
    clock,
    random,
    heartbeatIntervalS = 20,
    keyWindowS = 300,
    pollWaitMaxS = 25,
    commandMaxBytes = 69_632,
  }) {
    Object.assign(this, { clock, random, heartbeatIntervalS, keyWindowS, pollWaitMaxS, commandMaxBytes });
  }

  log(name) {
    if (!this.logs.has(name)) this.logs.set(name, new Log(name, this.random));
    return this.logs.get(name);
  }

  newToken(livesS = 3600) {
    const token = `token-${++this.#ids}`;
    this.tokens.set(token, this.clock.now() + livesS * 1000);
    return token;
  }

  /** The number of the refusal, or 0. */
  refusalOf(token) {
    if (!token) return this.isAnonymousAllowed ? 0 : 3401;
    if (!this.tokens.has(token)) return 4501;
    return this.clock.now() >= this.tokens.get(token) ? 4401 : 0;
  }

  publish(channel, data, type) {
    const publication = this.log(channel).append(data, type);
    for (const session of this.sessions.values()) this.#deliver(session, publication);
    return publication;
  }

  /** As after a restart of the node: logs stay, sessions are gone, connections break. */
  forgetSessions() {
    for (const session of this.sessions.values()) {
      session.current?.end(1006, "");
      for (const leg of session.candidates) leg.end(1006, "");
    }
    this.sessions.clear();
  }

  /** A numbered push to a session. */
  tell(session, push) {
    const numbered = { ...push, seq: ++session.seq };
    session.kept.push(numbered);
    this.#notify(session, numbered);
  }

  endSubscription(session, channel, error) {
    session.positions.delete(channel);
    this.tell(session, { unsubscribed: { channel, error } });
  }

  // -- legs

  attach(leg, command, token) {
    let session = this.sessions.get(command.session);
    const isResumed = Boolean(session);
    session ??= this.#newSession();
    const intervalS = Math.min(this.heartbeatIntervalS, command.heartbeat_s ?? Infinity);
    Object.assign(leg, { session, token, attempt: command.attempt, list: command.subscriptions, intervalS });
    leg.state = "candidate";
    this.#acknowledge(session, command.last_seq);
    session.candidates.add(leg);
    const [oldest] = session.candidates;
    if (session.candidates.size > 2) this.#drop(oldest, 4411);
    leg.write({ attached: this.#attached(leg, command.nonce, isResumed) });
    leg.timer = this.clock.setTimeout(() => leg.state === "candidate" && this.#drop(leg, 4411), 10_000);
    if (leg.transport !== "longpoll") this.#beat(leg);
    if (command.confirm) this.confirm(leg);
  }

  confirm(leg, list = leg.list) {
    const { session } = leg;
    if (leg.state !== "candidate") return;
    session.candidates.delete(leg);
    if (session.current?.attempt > leg.attempt) return this.#drop(leg, 4509);
    const former = session.current;
    session.current = leg;
    leg.state = "current";
    if (former) this.#drop(former, 4509);
    session.positions = new Map();
    this.#tellAll(leg, list);
  }

  /** The leg is gone; its session stays. */
  lost(leg) {
    leg.state = "ended";
    this.clock.clearTimeout(leg.timer);
    this.clock.clearTimeout(leg.beatTimer);
    leg.session?.candidates.delete(leg);
    if (leg.session?.current === leg) leg.session.current = undefined;
  }

  #drop(leg, code) {
    this.lost(leg);
    leg.write({ disconnect: { code, reason: NAMES[code], ...(code >= 4500 && { reconnect: false }) } });
    leg.end(code, NAMES[code]);
  }

  #beat(leg) {
    leg.beatTimer = this.clock.setTimeout(() => {
      if (leg.state === "ended") return;
      if (leg.transport === "websocket" && this.clock.now() - leg.heardMs > 2500 * leg.intervalS)
        return this.#drop(leg, 4409);
      leg.write({ heartbeat: { at_ms: this.clock.now() } });
      this.#beat(leg);
    }, leg.intervalS * 1000);
  }

  #newSession() {
    const session = {
      id: `s${++this.#ids}`,
      candidates: new Set(),
      positions: new Map(), // channel -> what was written to the current leg
      kept: [],
      seq: 0,
      n: 0,
      replies: new Map(),
      holes: [],
    };
    this.sessions.set(session.id, session);
    return session;
  }

  #attached(leg, nonce, isResumed) {
    const endsMs = this.tokens.get(leg.token);
    return {
      session: leg.session.id,
      attempt: leg.attempt,
      nonce,
      heartbeat_interval_s: leg.intervalS,
      limits: {
        data_max_bytes: 65_536,
        command_max_bytes: this.commandMaxBytes,
        channels_max: 256,
        key_window_s: this.keyWindowS,
        poll_wait_max_s: this.pollWaitMaxS,
        echo_interval_s: 1,
      },
      ...(isResumed && { is_resumed: true }),
      ...(endsMs && { token_expires_in_s: (endsMs - this.clock.now()) / 1000 }),
    };
  }

  #acknowledge(session, lastSeq = 0) {
    session.kept = session.kept.filter(({ seq }) => seq > lastSeq);
  }

  /** `subscribed` with the whole truth, what it brings, and the numbered pushes not acknowledged. */
  #tellAll(leg, list) {
    const { session } = leg;
    const caughtUp = [];
    const channels = list.map(({ channel, ...from }) => {
      if (this.denied.has(channel)) return { channel, error: 3403 };
      const { position, recovered, publications } = this.log(channel).continue(from);
      session.positions.set(channel, position.offset + publications.length);
      caughtUp.push(...publications);
      return { channel, position, ...(!recovered && { recovered }) };
    });
    const sealed = leg.transport === "longpoll" ? this.seal(leg.token, [...session.positions.keys()]) : undefined;
    leg.write({ subscribed: { channels, ...(sealed && { sealed }) } });
    for (const publication of caughtUp) this.#write(leg, publication);
    for (const push of session.kept) leg.write(push);
  }

  #write(leg, publication) {
    for (const one of this.mangle(publication)) leg.write({ publication: one });
  }

  #deliver(session, publication) {
    const { current: leg, positions } = session;
    if (leg?.transport === "longpoll") return this.#notify(session);
    if (!leg || positions.get(publication.channel) !== publication.offset - 1) {
      // Another epoch: this link cannot go on.
      if (positions.get(publication.channel) >= publication.offset) positions.delete(publication.channel);
      return;
    }
    positions.set(publication.channel, publication.offset);
    this.#write(leg, publication);
  }

  #notify(session, push) {
    const leg = session.current;
    if (!leg) return;
    if (leg.transport !== "longpoll") leg.write(push);
    else session.waiting?.();
  }

  // -- polls

  seal(token, channels) {
    return JSON.stringify({ token, channels });
  }

  /**
   * `answer(pushes)` is called once. A poll knows only its body, as it may land on any node: the session here adds
   * confirm and the numbered pushes.
   */
  poll(command, token, answer) {
    const pushes = [];
    let session = this.sessions.get(command.session);
    const seal = command.sealed ? JSON.parse(command.sealed) : undefined;
    const write = (push) => pushes.push(push);
    if (!session || (!session.current && !command.confirm && session.attempt !== command.attempt)) {
      const isKnown = Boolean(session);
      session ??= this.#newSession();
      const leg = {
        transport: "longpoll",
        session,
        token,
        attempt: command.attempt,
        state: "current",
        intervalS: this.heartbeatIntervalS,
        write,
        end() {},
      };
      session.current = leg;
      if (!isKnown) write({ attached: this.#attached(leg, "", false) });
      this.#tellAll(leg, command.positions);
      return answer(pushes);
    }
    this.#acknowledge(session, command.last_seq);
    session.waiting?.("older");
    if (command.confirm) {
      const leg = [...session.candidates].find(({ attempt }) => attempt === command.attempt);
      if (leg) {
        leg.write = write;
        leg.token = token;
        const fresh = new Map(command.positions.map(({ channel, position }) => [channel, { position }]));
        this.confirm(
          leg,
          leg.list.map(({ channel, ...from }) => ({ channel, ...(fresh.get(channel) ?? from) })),
        );
        return answer(pushes);
      }
    }
    const leg = session.current;
    if (leg.attempt !== command.attempt) {
      return answer([{ disconnect: { code: 4509, reason: "replaced", reconnect: false } }]);
    }
    if (seal?.token !== token) {
      // The seal does not fit the token: everything is authorised again.
      leg.token = token;
      leg.write = write;
      session.positions = new Map();
      this.#tellAll(leg, command.positions);
      return answer(pushes);
    }
    this.#wait(session, command, seal, answer);
  }

  #wait(session, command, { channels }, answer) {
    const positions = new Map(command.positions.map(({ channel, position }) => [channel, position]));
    const collect = () => {
      const pushes = [];
      for (const channel of channels) {
        if (!positions.has(channel) || this.denied.has(channel)) continue;
        const { position, recovered, publications } = this.log(channel).continue({ position: positions.get(channel) });
        if (!recovered) pushes.push({ reset: { channel, position } });
        session.positions.set(channel, position.offset);
        for (const publication of publications) {
          for (const one of this.mangle(publication)) pushes.push({ publication: one });
        }
      }
      return [...pushes, ...session.kept];
    };
    const done = (pushes) => {
      this.clock.clearTimeout(timer);
      session.waiting = undefined;
      answer(pushes);
    };
    const timer = this.clock.setTimeout(() => done([]), (command.wait_s ?? 25) * 1000);
    session.waiting = (reason) => {
      const pushes = reason === "older" ? [] : collect();
      if (pushes.length || reason) done(pushes);
    };
    session.waiting();
  }

  // -- commands

  /** `reply(fields)` is called once, or never for a command without an answer. */
  command(leg, command, token, reply) {
    this.received.push(command);
    const { id, n, method } = command;
    const session = leg?.session;
    const answer = (result) => reply({ id, ...(n && { n }), ...result });
    if (method === "heartbeat") {
      if (command.echo) leg?.write?.({ heartbeat: { at_ms: this.clock.now(), echo: command.echo } });
      if (session) this.#acknowledge(session, command.last_seq);
      return reply();
    }
    if (method === "confirm") return this.confirm(leg, command.subscriptions);
    if (!["subscribe", "unsubscribe", "refresh"].includes(method)) return answer(this.#stateless(command));
    if (!session) return answer({ error: wireError(3404) });
    if (leg.transport === "longpoll") return answer(this.#polled(session, command, token));
    this.#numbered(session, command, token, answer);
  }

  #numbered(session, command, token, answer) {
    const { n } = command;
    if (!n) return answer({ error: wireError(3400) });
    if (n <= session.n) return answer(session.replies.get(n));
    if (n > session.n + 1) {
      const hole = { command, run: () => this.#numbered(session, command, token, answer) };
      hole.timer = this.clock.setTimeout(() => {
        session.holes.splice(session.holes.indexOf(hole), 1);
        answer({ error: wireError(3409) });
      }, 2_000);
      session.holes.push(hole);
      return;
    }
    session.n = n;
    const { after, ...result } = this.#list(session, command, token);
    session.replies.set(n, result);
    answer(result);
    after?.();
    const next = session.holes.find((hole) => hole.command.n === n + 1);
    if (!next) return;
    this.clock.clearTimeout(next.timer);
    session.holes.splice(session.holes.indexOf(next), 1);
    next.run();
  }

  #list(session, command, token) {
    const { method, channel, position, history } = command;
    const { positions } = session;
    if (method === "refresh") {
      const refusal = this.refusalOf(command.token || token);
      if (refusal) return { error: wireError(refusal) };
      if (session.current) session.current.token = command.token || token;
      return { token_expires_in_s: (this.tokens.get(command.token || token) - this.clock.now()) / 1000 };
    }
    if (method === "unsubscribe") return positions.delete(channel) ? {} : { error: wireError(3412) };
    if (this.denied.has(channel)) return { error: wireError(3403) };
    if (this.#fails(channel)) return { error: wireError(3503) };
    if (positions.has(channel)) return { error: wireError(3411) };
    const from = this.log(channel).continue({ position, history });
    positions.set(channel, from.position.offset + from.publications.length);
    return {
      position: from.position,
      recovered: from.recovered,
      after: () =>
        from.publications.forEach((publication) => session.current && this.#write(session.current, publication)),
    };
  }

  #fails(channel) {
    const left = this.failing.get(channel) ?? 0;
    this.failing.set(channel, left - 1);
    return left > 0;
  }

  #polled(session, { method, channel, position, history, sealed, n }, token) {
    if (n) return { error: wireError(3400) };
    const { channels } = JSON.parse(sealed);
    if (method === "unsubscribe") {
      session.positions.delete(channel);
      return {
        sealed: this.seal(
          token,
          channels.filter((name) => name !== channel),
        ),
      };
    }
    if (this.denied.has(channel)) return { error: wireError(3403) };
    if (this.#fails(channel)) return { error: wireError(3503) };
    const from = this.log(channel).continue({ position, history });
    session.positions.set(channel, from.position.offset);
    return {
      position: from.position,
      recovered: from.recovered,
      sealed: this.seal(token, [...new Set([...channels, channel])]),
    };
  }

  #stateless({ method, name, channel, data, key, type, after, limit = 100, reverse }) {
    if (method === "call") {
      const handler = this.calls.get(name);
      if (!handler) return { error: wireError(3406) };
      if (!this.#results.has(key)) this.#results.set(key, handler(data));
      return { result: this.#results.get(key) };
    }
    if (this.denied.has(channel)) return { error: wireError(3403) };
    const log = this.log(channel);
    if (method === "publish") {
      const known = this.#keys.get(key);
      const body = JSON.stringify([channel, data, type]);
      if (known && this.clock.now() - known.atMs < this.keyWindowS * 1000) {
        if (known.body !== body) return { error: wireError(3415) };
        return { position: known.position, repeated: true };
      }
      const { offset, epoch, tag } = this.publish(channel, data, type);
      const position = { offset, epoch, tag };
      if (key) this.#keys.set(key, { position, body, atMs: this.clock.now() });
      return { position };
    }
    if (method === "history") {
      const from = after ? log.continue({ position: after }) : { recovered: true, publications: [...log.entries] };
      if (!from.recovered) return { error: wireError(3410) };
      const found = from.publications;
      return { publications: reverse ? found.reverse().slice(0, limit) : found.slice(0, limit), head: log.head };
    }
    if (method === "presence") return { entries: [{ subject: "alice" }] };
    return { error: wireError(3405) };
  }
}
