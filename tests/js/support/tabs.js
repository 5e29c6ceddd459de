/**
 * A browser in memory, as far as tabs see one: Web Locks and BroadcastChannel of one origin, and tabs that crash or close
 * (without a word, their locks released), are stuck (nothing happens in them, their locks stay), and are suspended and
 * resumed as by the back/forward cache.
 *
 * Everything that enters a tab (timers, messages, answers of the network) passes its gate.
 */

import "../../../static/hybrid/tabs/index.js"; // there before a client asks for it: loading takes no hand-made time

const DELIVERY_MS = 1;

export class Browser {
  channels = new Set();
  keys = 0;
  posted = []; // every message on any channel, for tests to look at
  #locks = new Map(); // name -> requests, the first of which holds it

  constructor(world) {
    Object.assign(this, { world, clock: world.clock });
  }

  tab() {
    return new Tab(this);
  }

  // -- https://w3c.github.io/web-locks/, exclusive locks only

  request(tab, name, { signal } = {}, callback) {
    const queue = this.#locks.get(name) ?? [];
    this.#locks.set(name, queue);
    return new Promise((resolve, reject) => {
      const request = { tab, callback, resolve, reject, isHeld: false };
      if (tab.isGone) return; // what is still running of it
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", () => {
        if (request.isHeld || !queue.includes(request)) return;
        this.#take(name, request);
        reject(signal.reason);
      });
      queue.push(request);
      this.#grant(name);
    });
  }

  async query() {
    const requests = [...this.#locks.values()].flat();
    return { held: requests.filter(({ isHeld }) => isHeld), pending: requests.filter(({ isHeld }) => !isHeld) };
  }

  release(tab) {
    for (const [name, queue] of this.#locks)
      for (const request of queue.filter((one) => one.tab === tab)) this.#take(name, request);
  }

  /** The tab that holds the lock, if there is but one lock. */
  get holder() {
    return [...this.#locks.values()].flat().find(({ isHeld }) => isHeld)?.tab;
  }

  #take(name, request) {
    const queue = this.#locks.get(name);
    const index = queue.indexOf(request);
    if (index >= 0) queue.splice(index, 1);
    this.#grant(name);
  }

  #grant(name) {
    this.clock.setTimeout(() => {
      const [first] = this.#locks.get(name);
      if (!first || first.isHeld) return;
      first.isHeld = true;
      first.tab.enter(async () => {
        try {
          first.resolve(await first.callback({ name, mode: "exclusive" }));
        } catch (error) {
          first.reject(error);
        }
        this.#take(name, first);
      });
    }, DELIVERY_MS);
  }
}

export class Tab {
  isGone = false;
  isStuck = false;
  #waiting = [];
  #aborter = new AbortController();
  #sockets = new Set();
  #listeners = new Set();

  constructor(browser) {
    Object.assign(this, { browser, world: browser.world });
  }

  /** A client in this tab. */
  client(options = {}, environment = {}) {
    return this.world.client({ ...options, environment: { ...this.environment, ...environment } });
  }

  /** The page is closed or left, or its process is killed: nothing is said, connections break, locks are free. */
  crash() {
    this.isGone = true;
    this.#waiting = [];
    for (const channel of this.browser.channels) if (channel.tab === this) channel.close();
    for (const { link } of this.#sockets) link.break();
    this.#aborter.abort();
    this.browser.release(this);
  }

  /** It is frozen, or put into the back/forward cache. */
  suspend() {
    for (const { onAsleep } of [...this.#listeners]) onAsleep();
  }

  resume() {
    for (const { onWoken } of [...this.#listeners]) onWoken();
  }

  /** A loop without end, a debugger: nothing happens in it any more, and nobody is told. */
  stick() {
    this.isStuck = true;
  }

  loosen() {
    this.isStuck = false;
    for (const task of this.#waiting.splice(0)) this.enter(task);
  }

  enter(task) {
    if (this.isGone) return;
    if (this.isStuck) this.#waiting.push(task);
    else task();
  }

  /** What its clients take instead of the platform. */
  get environment() {
    const tab = this;
    const { browser, world } = this;
    const { clock } = world;
    const below = world.network.environment();
    return {
      ...below,
      setTimeout: (callback, delayMs) => clock.setTimeout(() => tab.enter(callback), delayMs),
      WebSocket: class extends below.WebSocket {
        constructor(...options) {
          super(...options);
          tab.#sockets.add(this);
          for (const event of ["onopen", "onmessage", "onclose"]) tab.#gate(this, event);
        }
        send(text) {
          if (!tab.isGone) super.send(text);
        }
      },
      fetch: (url, options) => tab.#fetch(below.fetch, url, options),
      makeKey: () => `tab-${++browser.keys}-${Math.floor(world.random() * 1e9)}`,
      onWake: (onWoken, onAsleep) => {
        const listener = { onWoken, onAsleep };
        tab.#listeners.add(listener);
        return () => tab.#listeners.delete(listener);
      },
      locks: { request: (...request) => browser.request(tab, ...request), query: () => browser.query() },
      BroadcastChannel: class extends FakeBroadcastChannel {
        constructor(name) {
          super(tab, name);
        }
      },
      digest: async (text) => text,
    };
  }

  #gate(socket, event) {
    let handler = null;
    Object.defineProperty(socket, event, {
      get: () => handler && ((value) => this.enter(() => handler?.(value))),
      set: (given) => (handler = given),
    });
  }

  /** Resolves at once, or when the tab is loose again, or never. */
  #entered = () => new Promise((resolve) => this.enter(resolve));

  async #fetch(fetch, url, { signal, ...options }) {
    const either = AbortSignal.any([signal, this.#aborter.signal]);
    try {
      const response = await fetch(url, { ...options, signal: either });
      await this.#entered();
      if (!response.body || !/event-stream/.test(response.headers.get("Content-Type"))) return response;
      const transform = async (chunk, controller) => {
        await this.#entered();
        controller.enqueue(chunk);
      };
      return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
    } catch (error) {
      await this.#entered();
      throw error;
    }
  }
}

/** To all others of its name: copies, in order, a little later (WHATWG HTML, section 9.5). */
class FakeBroadcastChannel {
  onmessage = null;
  #isClosed = false;

  constructor(tab, name) {
    Object.assign(this, { tab, name });
    if (!tab.isGone) tab.browser.channels.add(this);
  }

  postMessage(message) {
    const { browser } = this.tab;
    if (this.tab.isGone) return;
    if (this.#isClosed) throw new DOMException("the channel is closed", "InvalidStateError");
    const data = structuredClone(message);
    browser.posted.push({ tab: this.tab, data });
    for (const other of browser.channels) {
      if (other === this || other.name !== this.name) continue;
      browser.clock.setTimeout(
        () => other.tab.enter(() => other.#isClosed || other.onmessage?.({ data: structuredClone(data) })),
        DELIVERY_MS,
      );
    }
  }

  close() {
    this.#isClosed = true;
    this.tab.browser.channels.delete(this);
  }
}

/** A JWT in form, with a signature that nobody looks at. */
export const jwt = (claims) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.c2ln`;
};
