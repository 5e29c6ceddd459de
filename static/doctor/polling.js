/** The transport that has to work: one POST after the other, each answered whole. */

import { attachOf, headersOf, makeNonce } from "./lines.js";
import { Broken, answeredBy } from "./outcome.js";
import { Late, within } from "./time.js";
import { passed } from "./words.js";

/** A session that is polled. */
export class Polling {
  name = "longpoll";
  attached = null;
  /** What the last answer told of the way. */
  facts = [];
  #url;
  #token;
  #pace;
  #sealed = "";
  #aborter = new AbortController();

  constructor({ url, token, pace }) {
    this.#url = url;
    this.#token = token;
    this.#pace = pace;
  }

  /** Rejects with Broken or Told. */
  async attach() {
    const nonce = makeNonce();
    for (const { attached, subscribed } of await this.#post(attachOf(nonce), this.#pace.patience)) {
      if (attached?.nonce === nonce) this.attached = attached;
      if (subscribed) this.#sealed = subscribed.sealed ?? "";
    }
    if (!this.attached) throw new Broken("changed", "what came back is not ours");
  }

  /** A request that waits. Rejects with Broken or Told. */
  async poll(wait) {
    const poll = { method: "poll", session: this.attached.session, attempt: 1, positions: [], last_seq: 0 };
    await this.#post({ ...poll, wait_s: wait / 1000, sealed: this.#sealed }, wait + this.#pace.patience);
  }

  close() {
    this.#aborter.abort();
  }

  async #post(body, patience) {
    const exchange = async () => {
      const response = await fetch(`${this.#url}/stream`, {
        method: "POST",
        headers: headersOf(this.#token, "application/json"),
        body: JSON.stringify(body),
        cache: "no-store",
        signal: this.#aborter.signal,
      });
      if (!response.ok) throw await answeredBy(response);
      this.facts = passed(response.headers);
      const text = await response.text();
      try {
        const { pushes } = JSON.parse(text);
        if (Array.isArray(pushes)) return pushes;
      } catch {
        // what follows says so
      }
      throw new Broken("changed", "what came back is not ours: answers are changed on the way");
    };
    try {
      return await within(exchange(), patience);
    } catch (error) {
      if (error instanceof Late) throw new Broken("unanswered", `no answer within ${patience / 1000} s`);
      if (error instanceof TypeError) throw new Broken("refused", "the request failed; a browser does not say why");
      throw error;
    }
  }
}
