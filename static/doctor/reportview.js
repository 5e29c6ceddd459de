/** The report as it can be read, and copied. */

import { setText } from "../demo/text.js";

export class ReportView {
  #text;
  #button;
  #told;

  constructor(root) {
    this.#text = root.querySelector("pre");
    this.#button = root.querySelector("button");
    this.#told = root.querySelector('[data-part="copied"]');
    this.#button.addEventListener("click", () => this.#copy());
  }

  show(text) {
    setText(this.#text, text);
    this.#button.disabled = false;
    this.#say("Copy the report");
    setText(this.#told, "");
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#text.textContent); // undefined where the page came by plain http
      this.#say("Copied");
      setText(this.#told, "The report is copied.");
    } catch {
      getSelection().selectAllChildren(this.#text);
      this.#say("Selected: copy it now");
      setText(this.#told, "The report is selected; copy it with the keyboard.");
    }
  }

  #say(words) {
    setText(this.#button, words);
  }
}
