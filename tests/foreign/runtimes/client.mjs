/**
 * The client in whatever runs this (Node, Deno, Bun), against a real server: HYBRID_URL is its API, HYBRID_TOKEN a token
 * for it. Prints a line for each thing done, or ends with an error.
 */

import { decode, encode } from "@msgpack/msgpack";

import { Client } from "../../../static/hybrid/index.js";
import { messagePack } from "../../../static/hybrid/messagepack.js";

const { HYBRID_URL: url, HYBRID_TOKEN: token } = globalThis.process.env;
const COUNT = 30;
const TRANSPORTS = ["websocket", "sse", "longpoll"];
// Node got one of its own in version 22.
const WebSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;

const open = (options) => {
  // Deno has a localStorage: what worked for one client would be the next one's first choice.
  const storage = { getItem: () => null, setItem() {} };
  const client = new Client({ url, getToken: () => token, storage, ...options, environment: { WebSocket } });
  client.on("error", (error) => {
    throw error;
  });
  client.connect();
  return client;
};

const expect = (isTrue, what) => {
  if (!isTrue) throw new Error(what);
};

/** Publishes on each transport in turn, moving in between, and expects all of it once and in order. */
const travel = async (name, options) => {
  const client = open({ ...options, transports: TRANSPORTS });
  const channel = client.channel(`runtimes:${name}`);
  await channel.subscribe();
  const seen = [];
  const trail = [];
  client.on("leg", ({ transport, event, reason }) => trail.push(`${transport} ${event} ${reason ?? ""}`));
  const whole = new Promise((resolve) =>
    channel.on("publication", ({ data, transport }) => seen.push({ data, transport }) === 3 * COUNT && resolve()),
  );
  const data = (number) => ({ number, text: "é😀", list: [1.5, null, true, -7, 2 ** 40] });
  for (const [index, transport] of TRANSPORTS.entries()) {
    if (index) await client.moveTo(transport);
    for (let i = 0; i < COUNT; i++) await channel.publish(data(index * COUNT + i));
  }
  await whole;
  seen.forEach((one, index) => {
    expect(JSON.stringify(one.data) === JSON.stringify(data(index)), `${index}: ${JSON.stringify(one)}`);
  });
  const carried = Object.fromEntries(
    TRANSPORTS.map((name) => [name, seen.filter((one) => one.transport === name).length]),
  );
  expect(Object.values(carried).every(Boolean), `each transport brings some: ${JSON.stringify(carried)}; ${trail}`);
  const { publications } = await channel.history({ limit: 2, reverse: true });
  expect(publications[0].data.number === 3 * COUNT - 1, "history");
  client.disconnect();
  console.log(`${name}: ${seen.length} in order over ${TRANSPORTS}`);
};

/** Bytes look the same to an application, whatever has carried them. */
const bytes = async (name, codec, transport) => {
  const client = open({ transports: [transport], ...(codec && { codec }) });
  const channel = client.channel(`runtimes:${name}`);
  await channel.subscribe();
  const came = new Promise((resolve) => channel.on("publication", resolve));
  await channel.publish({ base64: "AP9oeWJyaWQ=" }, { binary: true });
  const { data, binary } = await came;
  expect(binary && data.base64 === "AP9oeWJyaWQ=", JSON.stringify(data));
  const { publications } = await channel.history();
  expect(publications[0].data.base64 === "AP9oeWJyaWQ=", "in the history");
  client.disconnect();
  console.log(`${name}: bytes over ${transport}`);
};

const codec = messagePack({ encode, decode });
await travel("json");
await travel("msgpack", { codec });
await bytes("bytes-json", undefined, "websocket");
await bytes("bytes-msgpack", codec, "websocket");
await bytes("bytes-sse", undefined, "sse");
console.log("done");
