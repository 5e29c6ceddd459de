/**
 * The one dialog: says what will be done, does it when it is confirmed, and says what came of it. What fails can be tried
 * again from where it is, with the same key: the server does it once.
 */

import { randomText } from "../demo/pkce.js";
import { setText } from "../demo/text.js";
import { make, partsOf } from "./dom.js";
import { failure } from "./words.js";

export class Dialog {
  #element;
  #parts;
  #act = null;
  #key;
  #opened = 0;
  #isBusy = false;

  constructor(element) {
    this.#element = element;
    this.#parts = partsOf(element);
    element.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    this.#parts("cancel").addEventListener("click", () => element.close());
    element.addEventListener("click", (event) => {
      if (event.target === element && !this.#isBusy) element.close(); // on what is behind it
    });
    element.addEventListener("cancel", (event) => {
      if (this.#isBusy) event.preventDefault();
    });
  }

  /**
   * @param {{title: string, says: (string | Node)[], fields?: HTMLElement[], verb?: string, isDanger?: boolean,
   *   act?: (values: FormData, key: string) => Promise<string>}} given `act` resolves with what came of it, in words;
   *   without it the dialog only tells
   */
  open({ title, says, fields = [], verb = "", isDanger = false, act = null }) {
    this.#opened += 1;
    this.#act = act;
    this.#key = { of: null, key: "" };
    setText(this.#parts("title"), title);
    this.#parts("body").replaceChildren(...says.map((one) => (typeof one === "string" ? make("p", {}, one) : one)), ...fields);
    const go = this.#parts("go");
    go.className = `button ${isDanger ? "is-danger is-filled" : "is-main"}`;
    setText(go, verb);
    go.hidden = !act;
    setText(this.#parts("cancel"), act ? "Cancel" : "Close");
    this.#tell({});
    this.#busy(false);
    if (!this.#element.open) this.#element.showModal();
    if (!fields.length) this.#parts("cancel").focus(); // not on what cannot be taken back
  }

  /** Replaces what the open dialog tells, when more is known; nothing where another one is open by then. */
  later(says) {
    const opened = this.#opened;
    return (nodes) => {
      if (opened === this.#opened) says.replaceWith(...nodes);
    };
  }

  close() {
    this.#element.close();
  }

  async #go() {
    if (!this.#act || this.#isBusy) return;
    const form = this.#element.querySelector("form");
    const invalid = form.querySelector(":invalid:not(fieldset)");
    if (invalid) {
      this.#tell({ problem: `${invalid.labels?.[0]?.querySelector("span")?.textContent ?? "A field"}: ${invalid.validationMessage}` });
      invalid.focus();
      return;
    }
    const values = new FormData(form);
    this.#tell({});
    this.#busy(true);
    const opened = this.#opened;
    try {
      const outcome = await this.#act(values, this.#keyOf(values));
      if (opened !== this.#opened) return;
      this.#act = null;
      this.#tell({ outcome });
      this.#parts("go").hidden = true;
      setText(this.#parts("cancel"), "Close");
      for (const field of this.#parts("body").querySelectorAll("input, select, textarea")) field.disabled = true;
      this.#busy(false);
      this.#parts("cancel").focus();
    } catch (error) {
      if (opened !== this.#opened) return;
      this.#tell({ problem: "kind" in error ? failure(error) : error.message });
      this.#busy(false);
    }
  }

  /** The same for the same wish: with another one the server would refuse the key. */
  #keyOf(values) {
    const of = JSON.stringify([...values]);
    if (of !== this.#key.of) this.#key = { of, key: randomText(crypto) };
    return this.#key.key;
  }

  #tell({ outcome = "", problem = "" }) {
    for (const [name, words] of Object.entries({ outcome, problem })) {
      setText(this.#parts(name), words);
      this.#parts(name).hidden = !words;
    }
  }

  #busy(isBusy) {
    this.#isBusy = isBusy;
    this.#parts("go").disabled = isBusy;
    this.#element.setAttribute("aria-busy", String(isBusy));
  }
}
