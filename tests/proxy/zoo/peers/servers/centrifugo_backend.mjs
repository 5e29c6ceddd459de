/**
 * The application behind a Centrifugo: `node centrifugo_backend.mjs API_PORT CONTROL_PORT`. It publishes through the
 * HTTP API, and reads what the client published from the channel's history.
 */

import { Agent, request } from "node:http";

import { control, feed } from "./feed.mjs";

const [apiPort, controlPort] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function call(method, parameters) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "x-api-key": "zoo" };
    const options = { host: "127.0.0.1", port: apiPort, path: `/api/${method}`, method: "POST", headers, agent };
    const asked = request(options, async (response) => {
      let text = "";
      for await (const part of response) text += part;
      const { result, error } = JSON.parse(text);
      if (error) reject(new Error(error.message));
      else resolve(result);
    });
    asked.on("error", reject);
    asked.end(JSON.stringify(parameters));
  });
}

feed((message) => call("publish", { channel: "feed", data: message }));
control(controlPort, async () => {
  const { publications } = await call("history", { channel: "up", limit: -1 });
  return publications.map(({ data }) => data.n);
});
