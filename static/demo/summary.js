/** All panes in one glance, and one sentence aloud when a promise is broken. */

import { count } from "./format.js";
import { setText } from "./text.js";

const FAULTS = ["lost", "repeated", "reordered"];

export class Summary {
  #panes;
  #parts = {};
  #alarm;
  #faults = 0;

  /** `alarm`: a live region; it stays empty for as long as nothing is lost. */
  constructor({ root, alarm, panes }) {
    this.#panes = panes;
    this.#alarm = alarm;
    for (const part of root.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
  }

  refresh() {
    const totals = this.#panes.map((pane) => pane.ledger.totals());
    const sum = (figure) => totals.reduce((whole, one) => whole + one[figure], 0);
    setText(this.#parts.received, count(sum("received")));
    let faults = 0;
    for (const fault of FAULTS) {
      const figure = sum(fault);
      faults += figure;
      setText(this.#parts[fault], count(figure));
      this.#parts[fault].parentElement.classList.toggle("is-bad", figure > 0);
    }
    const connected = this.#panes.filter((pane) => pane.isConnected).length;
    setText(this.#parts.sessions, `${connected} of ${this.#panes.length} sessions live`);
    this.#parts.sessions.dataset.all = String(connected === this.#panes.length);
    if (faults > this.#faults) setText(this.#alarm, `${count(faults)} publications were lost, repeated or reordered.`);
    this.#faults = faults;
  }
}
