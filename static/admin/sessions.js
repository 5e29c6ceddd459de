/** Who is connected: each session, or all of a principal together; by transport, subject, client and channel. */

import { count } from "../demo/format.js";
import { transportName } from "../demo/transports.js";
import { make } from "./dom.js";
import { afterTyping } from "./filters.js";
import { List } from "./list.js";
import { byPrincipal } from "./principals.js";
import { Table } from "./table.js";
import { span } from "./words.js";

const GROUPED_MAX = 2_000;
const PAGE_MAX = 500;
const NOBODY = "anonymous";

export class Sessions {
  #api;
  #dialog;
  #form;
  #lists;
  #isShown = false;

  constructor({ root, api, dialog, actions }) {
    this.#api = api;
    this.#dialog = dialog;
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.#form = part("filters");
    const place = part("list");
    this.#lists = { sessions: this.#each(place, actions), principals: this.#grouped(place, actions) };
    afterTyping(this.#form, () => this.#renew());
    part("disconnect").addEventListener("click", () => actions.disconnect());
    part("revoke").addEventListener("click", () => actions.revoke());
    this.#arrange();
  }

  shown(isShown) {
    this.#isShown = isShown;
    for (const list of Object.values(this.#lists)) list.shown(isShown && list === this.#list);
  }

  refresh() {
    return this.#list.refresh();
  }

  /** Show those of a channel, a subject, a transport: the other filters are taken off. */
  filter(filters) {
    this.#form.reset();
    for (const [name, value] of Object.entries(filters)) this.#form.elements[name].value = value;
    this.#renew();
  }

  get #list() {
    return this.#lists[this.#form.elements.shape.value];
  }

  get #filters() {
    const { transport, subject, client, channel } = this.#form.elements;
    return { transport: transport.value, subject: subject.value, client: client.value, channel: channel.value };
  }

  get #empty() {
    return Object.values(this.#filters).some(Boolean) ? "No session fits. Names have to be whole, as they are in the token." : "Nobody is connected with a session now.";
  }

  #renew() {
    this.#arrange();
    this.shown(this.#isShown);
    if (this.#isShown) this.#list.renew();
  }

  #arrange() {
    for (const [name, list] of Object.entries(this.#lists)) list.root.hidden = name !== this.#form.elements.shape.value;
  }

  #each(place, actions) {
    const table = new Table({
      caption: "Sessions, by their ids",
      keyOf: ({ session }) => session,
      columns: [
        { title: "Subject", kind: "name", text: ({ subject = "" }) => subject || NOBODY, hint: ({ issuer = "" }) => issuer },
        { title: "Transport", text: ({ transport }) => nameOf(transport), data: ({ transport = "none" }) => ({ badge: "transport", transport }) },
        { title: "Client", text: ({ client = "" }) => client || "–" },
        { title: "Channels", kind: "number", text: ({ channel_count: channels = 0 }) => count(channels) },
        { title: "For", kind: "number", text: ({ since_s: since_s = 0 }) => (since_s ? span(Date.now() / 1000 - since_s) : "–") },
        { title: "Address", kind: "mono", text: ({ address = "" }) => address || "–" },
        { title: "Buffered", kind: "number", text: ({ buffered = 0 }) => (buffered ? `${count(buffered)} B` : "–"), hint: () => "Bytes that it has been sent and has not taken yet" },
      ],
      actions: [
        { label: "Look…", describe: described, run: ({ session }) => this.#look(session) },
        { label: "Disconnect…", isDanger: true, describe: described, run: ({ session }) => actions.disconnect({ session }) },
      ],
    });
    return this.#made(place, table, {
      ask: (after) => this.#api.get("v1/info/sessions", { ...this.#filters, after, limit: 50 }),
      rowsOf: ({ sessions }) => sessions,
    });
  }

  #grouped(place, actions) {
    const number = (title, of) => ({ title, kind: "number", text: (row) => count(of(row)) });
    const described = ({ subject }) => subject || NOBODY;
    const table = new Table({
      caption: "Principals, by how many sessions they have",
      keyOf: ({ key }) => key,
      columns: [
        { title: "Subject", kind: "name", text: described, hint: ({ issuer }) => issuer },
        { title: "Client", text: ({ client }) => client || "–" },
        number("Sessions", ({ sessions }) => sessions),
        number("WebSocket", ({ websocket }) => websocket),
        number("SSE", ({ sse }) => sse),
        number("Long polling", ({ longpoll }) => longpoll),
        number("Away", ({ away }) => away),
        number("Subscriptions", ({ subscriptions }) => subscriptions),
      ],
      actions: [
        { label: "Sessions", describe: described, isOff: ({ subject }) => !subject, run: ({ subject }) => this.filter({ subject }) },
        { label: "Disconnect…", isDanger: true, describe: described, isOff: ({ subject }) => !subject, run: ({ subject }) => actions.disconnect({ subject }) },
        { label: "Revoke…", isDanger: true, describe: described, isOff: ({ subject }) => !subject, run: ({ subject }) => actions.revoke({ subject }) },
      ],
    });
    return this.#made(place, table, { ask: () => this.#all(), rowsOf: ({ sessions }) => byPrincipal(sessions) });
  }

  #made(place, table, { ask, rowsOf }) {
    const root = make("div");
    place.append(root);
    return Object.assign(new List({ root, table, ask, rowsOf, empty: () => this.#empty }), { root });
  }

  /** As many as are counted together; past that it says so instead of counting some of them. */
  async #all() {
    const sessions = [];
    let after = "";
    for (;;) {
      const answer = await this.#api.get("v1/info/sessions", { ...this.#filters, after, limit: PAGE_MAX });
      sessions.push(...answer.sessions);
      if (!answer.next || sessions.length >= GROUPED_MAX) {
        return { ...answer, sessions, next: undefined, note: answer.next ? `Of the first ${count(sessions.length)} sessions; filter to count others.` : "" };
      }
      after = answer.next;
    }
  }

  async #look(session) {
    const waiting = make("p.hint", {}, "Loading…");
    this.#dialog.open({ title: "Session", says: [waiting] });
    const show = this.#dialog.later(waiting);
    try {
      show(told(await this.#api.get(`v1/info/sessions/${encodeURIComponent(session)}`)));
    } catch (error) {
      if (!("kind" in error)) throw error;
      show([make("p.problem", { role: "alert" }, error.kind === "session_unknown" ? "It has ended meanwhile." : error.message)]);
    }
  }
}

function described({ subject = "", session }) {
  return `session ${session} of ${subject || NOBODY}`;
}

function nameOf(transport = "") {
  return transport ? transportName(transport) : "away";
}

function told({ session, node, transport, issuer = "", subject = "", client = "", address = "", since_s: since_s = 0, channels = [], buffered = 0 }) {
  const facts = [
    ["Subject", subject || NOBODY],
    ["Client", client || "–"],
    ["Issuer", issuer || "–"],
    ["Transport", `${nameOf(transport)}${since_s ? `, for ${span(Date.now() / 1000 - since_s)}` : ""}`],
    ["Address", address || "–"],
    ["Not taken yet", `${count(buffered)} bytes`],
    ["Node", node],
    ["Session", session],
  ];
  return [
    make("dl.facts", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    make("h3", {}, channels.length ? `Subscribed to ${count(channels.length)}` : "Subscribed to nothing"),
    make("ul.names", {}, ...channels.map((name) => make("li", {}, name))),
  ];
}
