/** The channels that somebody listens to; and each of them, looked at. */

import { count } from "../demo/format.js";
import { make } from "./dom.js";
import { afterTyping } from "./filters.js";
import { List } from "./list.js";
import { Table } from "./table.js";
import { many, reach } from "./words.js";

export class Channels {
  #api;
  #dialog;
  #actions;
  #goTo;
  #list;

  /** `goTo(part, filters)` shows another part of the page. */
  constructor({ root, api, dialog, actions, goTo }) {
    this.#api = api;
    this.#dialog = dialog;
    this.#actions = actions;
    this.#goTo = goTo;
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const form = part("filters");
    const table = new Table({
      caption: "Channels in use, by name",
      keyOf: ({ channel }) => channel,
      columns: [
        { title: "Channel", kind: "name", text: ({ channel }) => channel },
        { title: "Subscribers", kind: "number", text: ({ subscribers }) => count(subscribers) },
      ],
      actions: [
        { label: "Look…", describe: ({ channel }) => channel, run: ({ channel }) => this.#look(channel) },
        { label: "Publish", describe: ({ channel }) => channel, run: ({ channel }) => goTo("publish", { channel }) },
        { label: "Purge…", isDanger: true, describe: ({ channel }) => channel, run: ({ channel }) => actions.purge(channel) },
      ],
    });
    this.#list = new List({
      root: part("list"),
      table,
      ask: (after) => api.get("v1/info/channels", { prefix: form.elements.prefix.value, after, limit: 50 }),
      rowsOf: ({ channels }) => channels,
      empty: () => (form.elements.prefix.value ? "Nobody listens to a channel whose name begins so." : "Nobody listens to any channel now."),
    });
    afterTyping(form, () => this.#list.renew());
    part("open").addEventListener("click", () => this.#ask());
  }

  shown(isShown) {
    this.#list.shown(isShown);
  }

  refresh() {
    return this.#list.refresh();
  }

  /** One that nobody listens to is not in the list, and has a history all the same. */
  #ask() {
    const input = make("input", { name: "channel", required: true, maxlength: 255, spellcheck: "false", autocapitalize: "off", placeholder: "chat:lobby" });
    this.#dialog.open({
      title: "Look at a channel",
      says: ["Also one that nobody listens to now."],
      fields: [make("label.field", {}, make("span", {}, "Channel"), input)],
      verb: "Look",
      act: async (values) => {
        const name = values.get("channel");
        await this.#api.get(`v1/info/channels/${encodeURIComponent(name)}`);
        this.#look(name);
        return "";
      },
    });
  }

  async #look(channel) {
    const waiting = make("p.hint", {}, "Loading…");
    this.#dialog.open({ title: channel, says: [waiting] });
    const show = this.#dialog.later(waiting);
    try {
      show(this.#told(await this.#api.get(`v1/info/channels/${encodeURIComponent(channel)}`)));
    } catch (error) {
      if (!("kind" in error)) throw error;
      show([make("p.problem", { role: "alert" }, error.scope ? `Your token lacks the scope ${error.scope}.` : error.message)]);
    }
  }

  #told({ channel, subscribers, position, present, nodes, unanswered = [] }) {
    const facts = [
      ["Subscribers", `${count(subscribers)}${reach(nodes, unanswered).replace(/\.$/, "")}`],
      ["Published last at", position.offset ? `place ${count(position.offset)}` : "never"],
      ["Epoch of the log", position.epoch || "–"],
      ["Present", present ? `${many(present.principals, "principal")}, ${many(present.sessions, "session")}` : "not kept in this namespace"],
    ];
    const leave = (act) => () => {
      this.#dialog.close();
      act();
    };
    return [
      make("dl.facts", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      make(
        "div.fact-buttons",
        {},
        make("button.button", { type: "button", onclick: leave(() => this.#goTo("sessions", { channel })) }, "Who is on it"),
        make("button.button", { type: "button", onclick: leave(() => this.#goTo("publish", { channel })) }, "Publish to it"),
        make("button.button.is-danger", { type: "button", onclick: leave(() => this.#actions.purge(channel)) }, "Empty its history…"),
      ),
    ];
  }
}
