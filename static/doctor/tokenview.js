/** The card that says with which token is examined, and takes another. */

import { setText } from "../demo/text.js";

export class TokenView {
  #words;
  #source;

  /** `onPaste` is called when there is another token. */
  constructor({ root, source, onPaste }) {
    this.#words = root.querySelector('[data-part="words"]');
    this.#source = source;
    const form = root.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      source.paste(form.elements.token.value);
      form.elements.token.value = "";
      onPaste();
    });
  }

  show(hasToken) {
    setText(this.#words, this.#sentence(hasToken));
  }

  #sentence(hasToken) {
    const { isPasted, isFree, foreign } = this.#source;
    if (isPasted) return "With the one that you pasted. An empty field takes it back.";
    if (hasToken) return "With one of this server’s development issuer, which gives one to anybody.";
    if (isFree) return "With none: the server’s development issuer gave none.";
    const from = foreign.length ? ` It takes tokens of ${foreign.join(" and ")}.` : "";
    return `With none: the server refuses then in its own words, which shows that it can be reached.${from}`;
  }
}
