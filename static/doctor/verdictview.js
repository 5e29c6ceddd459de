/** The card at the top: what hybrid will use here, and the server that was reached. */

import { setText } from "../demo/text.js";
import { TITLES } from "./words.js";

const STATES = { waiting: "waiting", trying: "trying…", works: "reached", fails: "fails" };

export class VerdictView {
  #root;
  #headline;
  #why;
  #server;
  #serverState;

  constructor(root) {
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.#root = root;
    this.#headline = part("headline");
    this.#why = part("why");
    this.#server = part("server");
    this.#serverState = part("server-state");
  }

  begin() {
    delete this.#root.dataset.transport;
    delete this.#root.dataset.verdict;
    this.#say("Examining this network…", "Each transport is tried as hybrid’s client uses it. It takes some seconds.");
    this.#setServer("trying", "the server");
  }

  takeServer({ works, facts }) {
    this.#setServer(works ? "works" : "fails", works ? `The server ${facts.join("; ")}` : ["The server", ...facts.slice(1)].join("; "));
  }

  /** `isOver` false: the silences are still held. */
  show({ willUse, sentence }, { isOver }) {
    const [headline, why] = split(sentence);
    this.#root.dataset.verdict = willUse ? "some" : "none";
    if (willUse) this.#root.dataset.transport = willUse;
    else delete this.#root.dataset.transport;
    const held = isOver ? "" : " Connections are now held in silence, which may change that.";
    this.#say(headline, `${why}${held}`, willUse && TITLES[willUse]);
  }

  #say(headline, why, strong = null) {
    const at = strong ? headline.indexOf(strong) : -1;
    const marked = document.createElement("b");
    marked.textContent = strong ?? "";
    const parts = at < 0 ? [headline] : [headline.slice(0, at), marked, headline.slice(at + strong.length)];
    if (this.#headline.textContent !== headline) this.#headline.replaceChildren(...parts);
    setText(this.#why, why);
  }

  #setServer(state, words) {
    this.#server.parentElement.dataset.state = state;
    setText(this.#serverState, STATES[state]);
    setText(this.#server, words);
  }
}

/** The sentence as a headline, and what follows it. Pure. */
export function split(sentence) {
  const [, headline, rest] = /^(.*? here)[,:;]? ?(.*)$/.exec(sentence) ?? [null, sentence, ""];
  const why = rest === "." ? "" : rest;
  return [headline, why && `${why[0].toUpperCase()}${why.slice(1)}`];
}
