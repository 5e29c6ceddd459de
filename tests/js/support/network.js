/**
 * What lies between a client and the fake server: an injected WebSocket and fetch, with latency, and with the faults of
 * hostile networks per transport. Bytes arrive in order or not at all; a cut loses what is on its way.
 */

import { wireError } from "./server.js";

const LUMP_MS = 4_000;

const utf8 = new TextEncoder();

/**
 * `faults[transport]`: undefined (works), "refused", "hang" (nothing ever comes back), "mute" (opens, the way down is
 * swallowed), "killed" (cut 200 ms after it opened), "held" (sse: the answer is kept back), "behind" (what comes down is
 * kept back until the next does), "lumpy" (it comes down every four seconds), a number (HTTP status of a proxy); for
 * `command` (POSTs) and `ping` "refused" or "hang".
 *
 * `idleMs`: streams are cut when nothing has passed for so long. `freeze()`: what is open goes dead without an end.
 */
export class Network {
  faults = {};
  latencyMs = () => 5;
  isDown = false;
  isHidden = false;
  idleMs = Infinity;
  opened = []; // transports, in the order in which connections were begun
  tokensSeen = [];
  urls = [];
  #links = new Set();

  constructor({ clock, server, random }) {
    Object.assign(this, { clock, server, random });
    const network = this;
    this.WebSocket = class extends FakeWebSocket {
      constructor(url, protocols) {
        super(network, url, protocols);
      }
    };
  }

  /** What a client takes instead of the platform. */
  environment(more = {}) {
    const { clock, random, WebSocket, fetch } = this;
    const { setTimeout, clearTimeout, now } = clock;
    let keys = 0;
    return {
      WebSocket,
      fetch: fetch.bind(this),
      setTimeout,
      clearTimeout,
      now,
      random,
      location: "https://example.org/page",
      storage: undefined,
      makeKey: () => `key-${++keys}-${Math.floor(random() * 1e9)}`,
      isHidden: () => this.isHidden,
      onWake: (wake, sleep) => {
        Object.assign(this, { wake, sleep });
        return () => {};
      },
      ...more,
    };
  }

  /** Every connection breaks; what is on its way is lost. */
  cut() {
    for (const link of [...this.#links]) link.break();
  }

  /** As when the network changes: nothing passes any more on what is open, and nobody is told. */
  freeze() {
    for (const link of this.#links) link.isFrozen = true;
  }

  /** Connections that are open or on their way. */
  get open() {
    return this.#links.size;
  }

  /** `fault` concerns what comes `down` on a stream. */
  link(onBreak, fault) {
    const { clock } = this;
    const link = {
      isBroken: false,
      lastMs: 0,
      later: (callback) => {
        link.lastMs = Math.max(link.lastMs, clock.now() + this.latencyMs());
        if (fault === "lumpy") link.lastMs = Math.ceil(link.lastMs / LUMP_MS) * LUMP_MS;
        clock.setTimeout(() => link.isBroken || link.isFrozen || callback(), link.lastMs - clock.now());
      },
      down: (callback) => {
        link.touch();
        if (fault !== "behind") return link.later(callback);
        if (link.kept) link.later(link.kept);
        link.kept = callback;
      },
      touch: () => {
        clock.clearTimeout(link.idleTimer);
        if (this.idleMs < Infinity && !link.isBroken) link.idleTimer = clock.setTimeout(link.break, this.idleMs);
      },
      close: () => {
        link.isBroken = true;
        clock.clearTimeout(link.idleTimer);
        this.#links.delete(link);
      },
      break: () => {
        if (link.isBroken) return;
        link.close();
        onBreak();
      },
    };
    this.#links.add(link);
    return link;
  }

  /** Fetch as the client uses it: POST to /stream and /command. */
  async fetch(url, { headers = {}, body, signal }) {
    this.urls.push(url);
    const path = url.slice(url.indexOf("/v1"));
    if (path === "/v1/ping") return this.#ping(signal);
    const isStream = headers.Accept === "text/event-stream";
    const transport = path === "/v1/command" ? "command" : isStream ? "sse" : "longpoll";
    const command = JSON.parse(body);
    const token = headers.Authorization?.slice(7);
    this.tokensSeen.push(token);
    if (command.method === "attach") this.opened.push(transport);
    const fault = this.isDown ? "refused" : this.faults[transport];
    return new Promise((resolve, reject) => {
      let leg;
      const link = this.link(
        () => {
          if (leg) this.server.lost(leg);
          reject(new TypeError("network error"));
        },
        transport === "sse" ? fault : undefined,
      );
      const abort = () => {
        if (link.isBroken) return;
        link.close();
        if (leg && leg.transport !== "longpoll") this.server.lost(leg);
        reject(signal.reason);
      };
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort);
      const answer = (status, value) =>
        link.later(() => {
          link.close();
          resolve(Response.json(value, { status }));
        });
      if (fault === "refused") return link.later(() => link.break());
      if (fault === "hang") return;
      if (typeof fault === "number") return answer(fault, { title: "a proxy's page" });
      link.later(() => {
        const refusal = this.server.refusalOf(token);
        if (refusal) return answer(401, wireError(refusal));
        if (transport === "command") return this.#command(command, token, answer);
        if (transport === "longpoll") return this.#poll(command, token, answer);
        leg = this.#stream(command, token, link, fault, resolve);
      });
    });
  }

  #ping(signal) {
    return new Promise((resolve, reject) => {
      const link = this.link(() => reject(new TypeError("network error")));
      signal.addEventListener("abort", () => {
        link.close();
        reject(signal.reason);
      });
      const fault = this.isDown ? "refused" : this.faults.ping;
      if (fault === "hang") return;
      link.later(() => {
        if (fault === "refused") return link.break();
        link.close();
        resolve(Response.json({ at_ms: this.clock.now() }));
      });
    });
  }

  #command({ session: id, commands }, token, answer) {
    const { server } = this;
    const session = server.sessions.get(id);
    const replies = [];
    let left = commands.length;
    const done = (count) => {
      left -= count;
      if (!left) answer(200, { replies });
    };
    if (!session && commands.some(({ method }) => ["subscribe", "unsubscribe", "refresh", "confirm"].includes(method)))
      return answer(404, wireError(3404));
    for (const command of commands) {
      const leg =
        command.method === "confirm"
          ? [...session.candidates].find(({ attempt }) => attempt === command.attempt)
          : session?.current;
      if (command.method === "confirm") {
        if (leg) server.command(leg, command, token, () => {});
        done(1);
      } else {
        server.command(leg ?? (session && { session, transport: "sse" }), command, token, (reply) => {
          if (reply) replies.push(reply);
          done(1);
        });
      }
    }
  }

  #poll(command, token, answer) {
    const { server } = this;
    if (command.method === "poll") return server.poll(command, token, (pushes) => answer(200, { pushes }));
    const pushes = [];
    const leg = { transport: "longpoll", write: (push) => pushes.push(push), end() {} };
    server.attach(leg, command, token);
    answer(200, { pushes });
  }

  #stream(command, token, link, fault, resolve) {
    const { server } = this;
    let controller;
    const stream = new ReadableStream({ start: (made) => (controller = made) });
    const leg = {
      transport: "sse",
      write: (push) => send(`data: ${JSON.stringify(push)}\n\n`),
      end: () =>
        link.later(() => {
          link.close();
          controller.close();
        }),
    };
    const { close } = link;
    // Whoever breaks or aborts it, the reader is told.
    link.close = () => {
      close();
      try {
        controller.error(new TypeError("network error"));
      } catch {
        // ended before
      }
    };
    const end = leg.end;
    leg.end = () => {
      link.close = close;
      end();
    };
    const send = (text) => {
      if (fault === "mute" || fault === "held") return;
      const bytes = utf8.encode(text);
      const middle = Math.floor(this.random() * bytes.length);
      link.down(() => {
        controller.enqueue(bytes.slice(0, middle));
        controller.enqueue(bytes.slice(middle));
      });
    };
    if (fault !== "held")
      link.later(() =>
        resolve(new Response(stream, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } })),
      );
    send(`:${" ".repeat(64)}\n\n`);
    server.attach(leg, command, token);
    if (fault === "killed") this.clock.setTimeout(() => link.break(), 200);
    return leg;
  }
}

class FakeWebSocket {
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;

  constructor(network, url, protocols) {
    Object.assign(this, { network, url, protocols });
    network.opened.push("websocket");
    network.urls.push(url);
    const fault = network.isDown ? "refused" : network.faults.websocket;
    const { server, clock } = network;
    const leg = (this.leg = { transport: "websocket", heardMs: clock.now() });
    this.link = network.link(() => {
      server.lost(leg);
      this.#closed(1006, "");
    }, fault);
    leg.write = (push) => {
      if (fault === "mute") return;
      this.link.down(() => this.onmessage?.({ data: JSON.stringify(push) }));
    };
    leg.end = (code, reason) => {
      this.link.later(() => {
        this.link.close();
        this.#closed(code, reason);
      });
    };
    if (fault === "refused") return void this.link.later(() => this.link.break());
    if (fault === "hang") return;
    this.link.later(() => {
      this.readyState = 1;
      this.onopen?.();
      if (fault === "killed") clock.setTimeout(() => this.link.break(), 200);
    });
  }

  send(text) {
    const { network, leg, link } = this;
    if (this.readyState !== 1) throw new Error("not open");
    link.touch();
    link.later(() => {
      leg.heardMs = network.clock.now();
      for (const line of text.split("\n")) this.#receive(JSON.parse(line));
    });
  }

  close() {
    if (this.readyState > 1) return;
    this.link.close();
    // The close frame takes its time too; what was written before has arrived by then.
    this.network.clock.setTimeout(() => this.network.server.lost(this.leg), this.network.latencyMs());
    this.#closed(1005, "");
  }

  #receive(command) {
    const { server } = this.network;
    const { leg } = this;
    if (leg.state === "ended") return;
    if (command.method === "auth") {
      this.token = command.token;
      this.network.tokensSeen.push(command.token);
      return;
    }
    if (command.method === "attach") {
      const refusal = server.refusalOf(this.token);
      if (refusal) return leg.end(refusal, "refused");
      return server.attach(leg, command, this.token);
    }
    server.command(leg, command, this.token, (reply) => reply && leg.write({ reply }));
  }

  #closed(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
