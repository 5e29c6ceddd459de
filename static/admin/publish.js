/** The form that publishes, and what came of it. */

import { setText } from "../demo/text.js";
import { make, partsOf } from "./dom.js";
import { asJson, many, published, reach } from "./words.js";

const KEPT = 20;
const SHOWN_CHARACTERS = 200;

export class Publish {
  #api;
  #dialog;
  #parts;
  #form;

  constructor({ root, api, dialog }) {
    this.#api = api;
    this.#dialog = dialog;
    this.#parts = partsOf(root);
    this.#form = this.#parts("form");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#confirm();
    });
  }

  shown() {}

  refresh() {}

  filter({ channel }) {
    this.#form.elements.channel.value = channel;
    this.#form.elements.data.focus();
  }

  #confirm() {
    const { channel, type, form, data } = this.#form.elements;
    const asked = { channel: channel.value, type: type.value.trim(), isText: form.value === "text", data: data.value };
    const [wrong, words] = problemOf(asked);
    setText(this.#parts("problem"), words);
    this.#parts("problem").hidden = !words;
    if (wrong) {
      this.#form.elements[wrong].focus();
      return;
    }
    const shown = asked.data.length > SHOWN_CHARACTERS ? `${asked.data.slice(0, SHOWN_CHARACTERS)}…` : asked.data;
    const listeners = make("p.hint", {}, "Counting who listens…");
    this.#dialog.open({
      title: `Publish to ${asked.channel}?`,
      says: [`It is written to the log, and reaches whoever listens at once. It cannot be taken back.`, make("pre.said-data", {}, shown), listeners],
      verb: "Publish",
      act: (_, key) => this.#send(asked, key),
    });
    this.#count(asked.channel, this.#dialog.later(listeners));
  }

  async #count(channel, show) {
    try {
      const { subscribers, nodes, unanswered } = await this.#api.get(`v1/info/channels/${encodeURIComponent(channel)}`);
      show([make("p.hint", {}, `Now ${many(subscribers, "subscriber listens", "subscribers listen")}${reach(nodes, unanswered)}`)]);
    } catch (error) {
      if (!("kind" in error)) throw error;
      show([make("p.hint", {}, "How many listen cannot be told.")]);
    }
  }

  async #send({ channel, type, isText, data }, key) {
    const answer = await this.#api.post(`v1/channels/${encodeURIComponent(channel)}`, data, {
      key,
      type: isText ? "text/plain;charset=utf-8" : "application/json",
      headers: type ? { "Hybrid-Type": type } : {},
    });
    const words = published(channel, answer);
    const list = this.#parts("sent");
    const at = new Date().toLocaleTimeString("en-GB");
    list.prepend(make("li", {}, make("time", {}, at), make("p", {}, words), make("pre", {}, data.slice(0, SHOWN_CHARACTERS))));
    while (list.children.length > KEPT) list.lastElementChild.remove();
    this.#parts("none").hidden = true;
    return words;
  }
}

/** Which field is wrong, and why; nothing where none is. The server judges the rest. */
function problemOf({ channel, isText, data }) {
  if (!channel) return ["channel", "To which channel?"];
  if (!data) return ["data", "There is nothing to publish."];
  if (isText) return [null, ""];
  try {
    asJson(data);
    return [null, ""];
  } catch (error) {
    return ["data", `This is no JSON: ${error.message}. Choose Text to publish it as it is.`];
  }
}
