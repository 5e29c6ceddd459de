/** One transport's card: how it does, in a word and in sentences, its figures, its time line and its silence. */

import { durationText } from "../demo/format.js";
import { setText } from "../demo/text.js";
import { stateOf } from "./report.js";
import { draw } from "./timeline.js";

const TITLES = { websocket: "WebSocket", sse: "Server-Sent Events", longpoll: "Long polling" };
const WORDS = { websocket: "a WebSocket", sse: "an event stream", longpoll: "requests that wait" };
const STATES = {
  ...{ waiting: "waiting", trying: "trying…", works: "works", badly: "works badly", fails: "fails", heard: "reached" },
  ...{ untried: "not tried" },
};

export class Row {
  #root;
  #parts = {};
  #beats = [];
  #isOver = false;
  #finding = null;
  #silence = null;
  #hasHeld = false;

  constructor({ name, template, host }) {
    const fragment = template.content.cloneNode(true);
    this.#root = fragment.querySelector("article");
    for (const part of fragment.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    this.#root.dataset.transport = name;
    this.#parts.title.id = `row-${name}`;
    this.#parts.silence.ariaLabel = `Silence held on ${WORDS[name]}`;
    this.#root.setAttribute("aria-labelledby", `row-${name}`);
    setText(this.#parts.title, TITLES[name]);
    setText(this.#parts["lag-name"], name === "longpoll" ? "poll" : "heartbeat");
    this.name = name;
    this.clear(`${WORDS[name][0].toUpperCase()}${WORDS[name].slice(1)} will be tried.`);
    host.append(fragment);
    new ResizeObserver(() => this.#draw()).observe(this.#parts.timeline);
  }

  /** As before anything was tried. */
  clear(words = "It will be tried again.") {
    this.#beats = [];
    this.#isOver = false;
    this.#finding = null;
    this.#silence = null;
    this.#hasHeld = false;
    this.#show("waiting", words, []);
    for (const figure of ["open", "lag"]) setText(this.#parts[figure], "–");
    this.#showSilence("none", "not held yet");
    this.#draw();
  }

  try() {
    this.#show("trying", `Trying ${WORDS[this.name]}…`, []);
  }

  takeBeats(beats) {
    this.#beats = beats;
    this.#draw();
  }

  /** @param {import("./verdict.js").Finding} finding */
  take(finding) {
    this.#finding = finding;
    this.#isOver = true;
    this.#beats = finding.beats ?? this.#beats;
    this.#show(stateOf(finding), sentence(finding.facts[0]), finding.facts.slice(1));
    if (finding.figures?.open !== undefined) setText(this.#parts.open, durationText(finding.figures.open));
    const poll = this.#beats.find((beat) => beat.waits && beat.came !== null);
    const lag = poll ? poll.came - poll.sent : finding.figures?.lag;
    if (lag !== undefined) setText(this.#parts.lag, durationText(lag));
    if (!finding.works) this.#showSilence("none", "not held: it does not work");
    if (finding.isOnlyHeard) this.#showSilence("none", "not held: that needs a token");
    this.#draw();
  }

  /** It is over: what was not tried will not be. */
  end() {
    if (!this.#finding) this.#show("untried", "Not tried: the server was not reached.", []);
    if (!this.#finding || (this.#finding.works && !this.#finding.isOnlyHeard && !this.#hasHeld))
      this.#showSilence("none", "not held");
    this.#isOver = true;
    this.#draw();
  }

  beginSilence(idle) {
    this.#silence = { began: performance.now(), idle };
    this.#parts.silence.max = idle;
    this.passTime();
  }

  /** The bar goes on; called as time passes. */
  passTime() {
    if (!this.#silence) return;
    const { began, idle } = this.#silence;
    const passed = Math.min(idle, performance.now() - began);
    this.#parts.silence.value = passed;
    this.#showSilence("trying", `${Math.floor(passed / 1000)} of ${idle / 1000} s without a word of ours`);
  }

  /** @param {import("./verdict.js").Finding} idle what the silence came to */
  takeSilence(idle) {
    const isGood = idle.works && !idle.flaws?.length && !idle.isCut;
    this.#hasHeld = true;
    if (this.#silence) this.#parts.silence.value = idle.cutAfter ?? this.#silence.idle;
    this.#silence = null;
    this.#showSilence(isGood ? "works" : idle.works ? "badly" : "fails", idle.facts[0]);
    const state = stateOf(this.#finding, idle);
    this.#setState(state);
  }

  #show(state, words, facts) {
    this.#setState(state);
    setText(this.#parts.verdict, words);
    this.#parts.facts.replaceChildren(
      ...facts.map((fact) => {
        const item = document.createElement("li");
        item.textContent = fact;
        return item;
      }),
    );
  }

  #setState(state) {
    this.#root.dataset.state = state;
    setText(this.#parts.state, STATES[state]);
  }

  #showSilence(state, words) {
    this.#parts.silence.closest(".silence").dataset.state = state;
    setText(this.#parts["silence-words"], words);
  }

  #draw() {
    draw(this.#parts.timeline, this.#beats, { isOver: this.#isOver });
  }
}

function sentence(fact) {
  return `${fact[0].toUpperCase()}${fact.slice(1)}.`;
}
