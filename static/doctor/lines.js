/**
 * The two transports on which a server speaks by itself, opened and read with nothing in between: no retries.
 * The client's legs are to survive what a network does; a line is to show it.
 */

import { decode } from "../hybrid/codec.js";
import { EventStreamParser } from "../hybrid/eventstream.js";
import { Broken, Told, answeredBy } from "./outcome.js";
import { Late, within } from "./time.js";
import { duration, passed } from "./words.js";

const FIRST_TOLD = 1012; // "draining", and the table of errors above it
const CLIENT = { name: "hybrid doctor" };

/** The attach of a new session without channels. */
export function attachOf(nonce, heartbeatS) {
  const told = { method: "attach", attempt: 1, nonce, confirm: true, client: CLIENT, subscriptions: [] };
  return heartbeatS ? { ...told, heartbeat_s: heartbeatS } : told;
}

export function makeNonce() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The headers of a POST. */
export function headersOf(token, accept) {
  return { Accept: accept, "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
}

/**
 * One connection. `onPush` is called with each push; `broken` rejects with Broken or Told when it is over.
 * Times are in milliseconds since the page began.
 */
class Line {
  /** What the server said of the session; null before the nonce has come back. */
  attached = null;
  /** What its head told of the way. */
  facts = [];
  /** How long it took until it was open. */
  head = 0;
  onPush = () => {};
  broken;
  began;
  #fail;
  #greeted;
  #greet;
  #nonce = makeNonce();

  /** `heartbeatS`: what the server is asked for; left to it without. */
  constructor({ url, token, pace, heartbeatS }) {
    this.url = url;
    this.token = token;
    this.pace = pace;
    this.heartbeatS = heartbeatS;
    this.broken = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.broken.catch(() => {}); // whoever waits hears of it; when nobody does, nobody needs to
    this.#greeted = new Promise((resolve) => {
      this.#greet = resolve;
    });
  }

  get attach() {
    return attachOf(this.#nonce, this.heartbeatS);
  }

  get greeted() {
    return Promise.race([this.#greeted, this.broken]);
  }

  fail(error) {
    this.#fail(error);
  }

  take(text) {
    let pushes;
    try {
      pushes = decode(text);
    } catch {
      this.fail(new Broken("changed", `what came after ${duration(performance.now() - this.began)} is not ours`));
      return;
    }
    for (const push of pushes) {
      if (push.disconnect) this.fail(new Told(push.disconnect.code, push.disconnect.reason));
      else if (push.attached?.nonce === this.#nonce) {
        this.attached = push.attached;
        this.#greet();
      } else if (this.attached) this.onPush(push);
      else this.fail(new Broken("changed", "what came back is not ours"));
    }
  }
}

/** Frames both ways. A page cannot set a header here, so the token is the first frame. */
export class WebSocketLine extends Line {
  name = "websocket";
  #socket = null;

  async open() {
    this.began = performance.now();
    const socket = new WebSocket(`${this.url.replace(/^http/, "ws")}/stream`, ["hybrid.v1"]);
    this.#socket = socket;
    let isOpen = false;
    const opened = new Promise((resolve) => {
      socket.onopen = resolve;
    });
    socket.onmessage = ({ data }) => this.take(String(data));
    socket.onclose = ({ code, reason }) => {
      if (code >= FIRST_TOLD) this.fail(new Told(code, reason));
      else if (isOpen) this.fail(new Broken("cut", `opened after ${duration(this.head)}, then cut`));
      else this.fail(new Broken("refused", "the handshake failed; a browser does not say why"));
    };
    try {
      await within(Promise.race([opened, this.broken]), this.pace.patience);
      isOpen = true;
      this.head = performance.now() - this.began;
      if (this.token) this.#send({ method: "auth", token: this.token });
      this.#send(this.attach);
      await within(this.greeted, this.pace.patience);
    } catch (error) {
      if (!(error instanceof Late)) throw error;
      if (!isOpen) throw new Broken("unanswered", `the handshake was not answered within ${this.pace.patience / 1000} s`);
      throw new Broken("mute", `opened after ${duration(this.head)}, then nothing came back: frames are swallowed`);
    }
  }

  /** Ask for a heartbeat, which will bring this number, from 1 on. Rejects with Broken or Told. */
  async ask(number) {
    this.#send({ method: "heartbeat", echo: number });
  }

  /** A heartbeat was heard: the server wants to hear one as often. */
  answer() {
    this.#send({ method: "heartbeat" });
  }

  close() {
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #send(command) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(command));
  }
}

/** An event stream down; heartbeats are asked for by POST. */
export class EventStreamLine extends Line {
  name = "sse";
  #aborter = new AbortController();

  async open() {
    this.began = performance.now();
    const reading = this.#read();
    reading.catch((error) => this.fail(error));
    try {
      await within(this.greeted, this.pace.patience);
    } catch (error) {
      if (!(error instanceof Late)) throw error;
      const told = this.head
        ? `the head came after ${duration(this.head)} and nothing behind it: the body is held back`
        : `no answer within ${this.pace.patience / 1000} s: held back until it would be whole`;
      throw new Broken("held", told, ...this.facts);
    }
  }

  async ask(number) {
    const command = { session: this.attached.session, commands: [{ method: "heartbeat", echo: number }] };
    const asking = fetch(`${this.url}/command`, {
      method: "POST",
      headers: headersOf(this.token, "application/json"),
      body: JSON.stringify(command),
      cache: "no-store",
      signal: this.#aborter.signal,
    });
    let response;
    try {
      response = await within(asking, this.pace.patience);
    } catch (error) {
      if (error instanceof Late)
        throw new Broken("posts", `a POST beside it is not answered within ${this.pace.patience / 1000} s`);
      throw new Broken("posts", "a POST beside it fails; a browser does not say why");
    }
    if (response.ok) return;
    const refusal = await answeredBy(response);
    if (refusal instanceof Told) throw refusal;
    throw new Broken("posts", `a POST beside it is ${refusal.facts[0]}`, ...refusal.facts.slice(1));
  }

  answer() {}

  close() {
    this.#aborter.abort();
  }

  async #read() {
    const response = await fetch(`${this.url}/stream`, {
      method: "POST",
      headers: headersOf(this.token, "text/event-stream"),
      body: JSON.stringify(this.attach),
      cache: "no-store",
      signal: this.#aborter.signal,
    }).catch(() => {
      throw new Broken("refused", "the request failed; a browser does not say why");
    });
    this.head = performance.now() - this.began;
    if (!response.ok) throw await answeredBy(response);
    this.facts = passed(response.headers);
    const parser = new EventStreamParser((data) => this.take(data));
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      // A stream that is cut in the middle rejects; one that is ended in form is over as well.
      const { value, done } = await reader.read().catch(() => ({ done: true }));
      if (done) throw new Broken("cut", `the stream ended after ${duration(performance.now() - this.began)}`);
      try {
        parser.feed(decoder.decode(value, { stream: true }));
      } catch {
        throw new Broken("changed", "what came back is not ours: the stream is changed on the way");
      }
    }
  }
}
