/**
 * The chat: what was said, by whom, and through which panes it has come here. Everything said is a stranger's text: it
 * is checked, cut and set as text only.
 */

import { setText } from "./text.js";

const SAID_MAX = 50;
const NAME_MAX = 24;
const TEXT_MAX = 500;

export class Chat {
  #channel;
  #publish;
  #list;
  #empty;
  #status;
  #form;
  #panes;
  /** Who this page is, to tell one's own words; no secret. */
  #self = [...crypto.getRandomValues(new Uint32Array(2))].map((part) => part.toString(36)).join("");
  /** @type {Map<string, {item: Element, dots: Map<string, Element>}>} epoch and offset -> what is shown, oldest first */
  #said = new Map();
  /** @type {Map<string, Map<string, string>>} the same key -> pane -> transport, for what came by other panes first */
  #early = new Map();

  /** `publish(data)` resolves when it is in the log; `panes`: [{id, title}] in the order of their dots; `name`: one's own. */
  constructor({ root, channel, publish, panes, name }) {
    this.#channel = channel;
    this.#publish = publish;
    this.#panes = panes;
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    [this.#list, this.#empty, this.#status] = [part("said"), part("empty"), part("status")];
    this.#form = part("form");
    this.#form.elements.name.value = name.slice(0, NAME_MAX);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
  }

  /** A publication that came by this pane; `isShown` for the pane that the chat is read from. */
  take(pane, publication, isShown) {
    if (publication.channel !== this.#channel) return;
    const key = `${publication.epoch}-${publication.offset}`;
    const shown = this.#said.get(key);
    if (isShown && !shown) this.#show(key, publication);
    const known = this.#said.get(key);
    if (known) light(known.dots.get(pane.id), pane, publication.transport);
    else this.#keepEarly(key, pane, publication.transport);
  }

  async #say() {
    const { name, text } = this.#form.elements;
    const said = text.value.trim();
    if (!said) return;
    text.value = "";
    setText(this.#status, "");
    try {
      await this.#publish({
        name: name.value.trim().slice(0, NAME_MAX) || "Somebody",
        text: said.slice(0, TEXT_MAX),
        from: this.#self,
        said_at_ms: Date.now(),
      });
    } catch (error) {
      setText(this.#status, `Not sent: ${error.message}`);
      if (!text.value) text.value = said;
    }
  }

  #show(key, { data }) {
    if (typeof data?.text !== "string") return;
    const item = document.createElement("li");
    item.classList.toggle("is-own", data.from === this.#self);
    const name = typeof data.name === "string" && data.name.trim() ? data.name.slice(0, NAME_MAX) : "Somebody";
    const head = append(item, "p", "said-head");
    append(head, "b", "said-name", name);
    if (Number.isFinite(data.said_at_ms)) append(head, "time", "said-time", clockTime(data.said_at_ms));
    append(item, "p", "said-text", data.text.slice(0, TEXT_MAX));
    const dots = this.#addDots(head);
    const isAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    this.#list.append(item);
    this.#empty.hidden = true;
    this.#said.set(key, { item, dots });
    for (const [id, transport] of this.#early.get(key) ?? []) {
      light(dots.get(id), this.#panes.find((pane) => pane.id === id), transport);
    }
    this.#early.delete(key);
    if (this.#said.size > SAID_MAX) {
      const [oldest, { item: gone }] = this.#said.entries().next().value;
      gone.remove();
      this.#said.delete(oldest);
    }
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** One dot per pane, lit in its transport's colour when the words have come by it as well. */
  #addDots(head) {
    const host = append(head, "span", "said-dots");
    host.setAttribute("aria-hidden", "true");
    return new Map(this.#panes.map(({ id, title }) => {
      const dot = append(host, "i");
      dot.title = `${title}: not yet`;
      return [id, dot];
    }));
  }

  #keepEarly(key, pane, transport) {
    const early = this.#early.get(key) ?? new Map();
    early.set(pane.id, transport);
    this.#early.set(key, early);
    if (this.#early.size > SAID_MAX) this.#early.delete(this.#early.keys().next().value);
  }
}

function light(dot, { title }, transport) {
  dot.dataset.transport = transport ?? "";
  dot.title = `${title}: received`;
}

function append(parent, tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

function clockTime(at_ms) {
  return new Date(at_ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}
