/**
 * A list that is asked for again and again while it is on show, a page at a time, with words for every state it can be
 * in: asked for the first time, empty, not permitted, failed (and what was known before stays, dimmed), there.
 */

import { setText } from "../demo/text.js";
import { make } from "./dom.js";
import { Pager } from "./pager.js";
import { reach } from "./words.js";

const EVERY_MS = 5_000;

export class List {
  #root;
  #table;
  #ask;
  #rowsOf;
  #empty;
  #pager = new Pager();
  #message = make("p.message", { role: "status" });
  #count = make("p.list-count");
  #again = make("button.button", { type: "button", hidden: true, onclick: () => this.refresh() }, "Try again");
  #back = make("button.button.is-small", { type: "button", onclick: () => this.#turn("back") }, "Previous");
  #forward = make("button.button.is-small", { type: "button", onclick: () => this.#turn("forward") }, "Next");
  #timer = null;
  #asked = 0;
  #isShown = false;
  #hasAnswer = false;

  /**
   * @param {{root: HTMLElement, table: import("./table.js").Table, ask: (after: string) => Promise<object>,
   *   rowsOf: (answer: object) => object[], empty: () => string}} given
   */
  constructor({ root, table, ask, rowsOf, empty }) {
    this.#root = root;
    this.#table = table;
    this.#ask = ask;
    this.#rowsOf = rowsOf;
    this.#empty = empty;
    const foot = make("div.list-foot", {}, this.#count, make("div.list-pages", {}, this.#back, this.#forward));
    root.classList.add("list", "card");
    root.append(make("div.list-state", {}, this.#message, this.#again), table.element, foot);
    this.#become("loading", "Loading…");
  }

  /** On show, or not: only what is on show is asked for. */
  shown(isShown) {
    this.#isShown = isShown;
    clearTimeout(this.#timer);
    if (isShown) this.refresh();
  }

  /** Another question: from its first page. */
  renew() {
    this.#pager.reset();
    this.#hasAnswer = false;
    this.#become("loading", "Loading…");
    return this.refresh();
  }

  async refresh() {
    clearTimeout(this.#timer);
    this.#asked += 1;
    const number = this.#asked;
    try {
      const answer = await this.#ask(this.#pager.after);
      if (number !== this.#asked) return; // asked something else meanwhile
      this.#pager.answered(answer.next);
      this.#take(answer);
    } catch (error) {
      if (number !== this.#asked) return;
      if (!("kind" in error)) throw error;
      this.#failed(error);
    } finally {
      if (number === this.#asked && this.#isShown && !document.hidden) this.#timer = setTimeout(() => this.refresh(), EVERY_MS);
    }
  }

  #take(answer) {
    const rows = this.#rowsOf(answer);
    this.#hasAnswer = true;
    this.#table.show(rows);
    const silent = answer.unanswered?.length ? reach(answer.nodes, answer.unanswered).replace(/^, on /, "Of ") : "";
    const isWhole = !this.#pager.hasPrevious && !this.#pager.hasNext;
    setText(this.#count, `${isWhole ? `${rows.length} in all` : `Page ${this.#pager.number}: ${rows.length}`}${silent && `. ${silent}`}${answer.note ? `. ${answer.note}` : ""}`);
    this.#back.disabled = !this.#pager.hasPrevious;
    this.#forward.disabled = !this.#pager.hasNext;
    this.#back.parentElement.hidden = isWhole;
    this.#become(rows.length ? "there" : "empty", rows.length ? "" : this.#empty());
  }

  #failed(error) {
    if (error.scope) this.#become("denied", `Your token does not permit this: it lacks the scope ${error.scope}.`);
    else if (error.kind === "signed-out") this.#become(this.#hasAnswer ? "stale" : "failed", "Your sign-in has ended.");
    else this.#become(this.#hasAnswer ? "stale" : "failed", this.#hasAnswer ? `${error.message} This is what was known before.` : error.message);
  }

  #become(state, words) {
    this.#root.dataset.state = state;
    setText(this.#message, words);
    this.#again.hidden = state !== "failed" && state !== "stale";
  }

  #turn(direction) {
    this.#pager[direction]();
    return this.refresh();
  }
}
