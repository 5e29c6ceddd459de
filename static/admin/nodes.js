/** The nodes: what each says of itself, and how it does just now. */

import { count } from "../demo/format.js";
import { List } from "./list.js";
import { Table } from "./table.js";
import { span } from "./words.js";

export class Nodes {
  #list;

  /** `rates` knows how each node does; nodes that are not in it have a dash there. */
  constructor({ root, api, rates, actions }) {
    const now = (row) => rates.now(row.node);
    const table = new Table({
      caption: "The nodes, with their load",
      keyOf: ({ node }) => node,
      columns: [
        { title: "Node", kind: "mono", text: ({ node }) => node },
        { title: "State", text: ({ draining }) => (draining ? "draining" : "serving"), data: ({ draining }) => ({ badge: draining ? "badly" : "good" }) },
        { title: "Connections", kind: "number", text: ({ streams }) => count(streams) },
        { title: "Room for", kind: "number", text: ({ room }) => count(room) },
        { title: "Sessions", kind: "number", text: ({ sessions }) => count(sessions) },
        { title: "Channels", kind: "number", text: ({ channels }) => count(channels) },
        { title: "Processor", kind: "number", text: (row) => percentOf(now(row)?.cpu), hint: () => "Of the one core that a process can use" },
        { title: "Loop lag", kind: "number", text: (row) => (now(row) ? `${now(row).lag_ms.toFixed(1)} ms` : "–") },
        { title: "Up", kind: "number", text: ({ uptime_s: up_s }) => (up_s === undefined ? "–" : span(up_s)) },
        { title: "Version", text: ({ version }) => version },
        { title: "Address", kind: "mono", text: ({ address = "–" }) => address },
      ],
      actions: [
        { label: "Drain…", isDanger: true, describe: ({ node }) => `node ${node}`, isOff: ({ draining = false }) => draining, run: (row) => actions.drain(row) },
      ],
    });
    this.#list = new List({ root, table, ask: () => api.get("v1/info/nodes"), rowsOf: ({ nodes }) => nodes, empty: () => "There are no nodes." });
  }

  shown(isShown) {
    this.#list.shown(isShown);
  }

  refresh() {
    return this.#list.refresh();
  }
}

function percentOf(share) {
  return share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`;
}
