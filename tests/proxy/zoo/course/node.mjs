/**
 * The course in Node: `node node.mjs '{"proxy"?, "ca"?, "storage"}'`. Reads `{"id", "method", "arguments"}`, one a line,
 * from its standard input and answers `{"id", "result" | "error"}` on its output; ends with its input.
 *
 * Over plain http a forward proxy is asked for the whole URL, WebSockets included; only for https it is asked for a
 * tunnel. (Browsers ask for a tunnel for every WebSocket.)
 */

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { Agent, ProxyAgent, WebSocket, fetch } from "../../../foreign/undici/node_modules/undici/index.js";

import { Client } from "../../../../static/hybrid/index.js";
import { Course } from "./course.js";

const options = JSON.parse(process.argv[2]);
const tls = options.ca && { ca: readFileSync(options.ca) };
const dispatcher = options.proxy
  ? new ProxyAgent({ uri: options.proxy, proxyTunnel: false, requestTls: tls })
  : new Agent({ connect: tls });

class RoutedWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, { protocols, dispatcher });
  }
}

/** Like localStorage, but in a file: it outlives the process as the other one outlives the page. */
const stored = () => {
  try {
    return JSON.parse(readFileSync(options.storage, "utf8"));
  } catch {
    return {}; // nothing stored yet
  }
};
const storage = {
  getItem: (key) => stored()[key] ?? null,
  setItem: (key, value) => writeFileSync(options.storage, JSON.stringify({ ...stored(), [key]: value })),
};

const course = new Course(Client, {
  WebSocket: RoutedWebSocket,
  fetch: (url, init) => fetch(url, { ...init, dispatcher }),
  storage,
});

const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { id, method, arguments: given } = JSON.parse(line);
    try {
      answer({ id, result: (await course[method](given)) ?? null });
    } catch (error) {
      answer({ id, error: String(error) });
    }
  })
  .on("close", () => process.exit());
