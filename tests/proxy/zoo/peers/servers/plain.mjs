/**
 * The baseline, as textbooks have it: `node plain.mjs PORT CONTROL_PORT`. An event stream that goes on after
 * Last-Event-ID, a bare WebSocket, and POST for what an EventSource's page has to say.
 */

import { createServer } from "node:http";

import { WebSocketServer } from "ws";

import { control, feed, life, page } from "./feed.mjs";

const KEPT = 2_400; // two minutes of the feed, as long as the others remember it

const [port, controlPort] = process.argv.slice(2).map(Number);
const ups = [];
const kept = [];
const streams = new Set();

const event = (message) => `id: ${message.life}-${message.n}\ndata: ${JSON.stringify(message)}\n\n`;

function stream(request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.flushHeaders();
  const [before, n] = (request.headers["last-event-id"] ?? "").split("-");
  const missed = before === life ? kept.filter((message) => message.n > Number(n)) : [];
  for (const message of missed) response.write(event(message));
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

async function up(request, response) {
  let text = "";
  for await (const part of request) text += part;
  ups.push(JSON.parse(text).n);
  response.writeHead(204).end();
}

const http = createServer((request, response) => {
  if (request.url === "/events") stream(request, response);
  else if (request.url === "/up") up(request, response).catch(() => response.destroy());
  else page(request, response);
});
const sockets = new WebSocketServer({ server: http, path: "/socket" });
sockets.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (text) => ups.push(JSON.parse(text).n));
});
feed((message) => {
  kept.push(message);
  if (kept.length > KEPT) kept.shift();
  for (const response of streams) response.write(event(message));
  for (const socket of sockets.clients) socket.send(JSON.stringify(message));
});
control(controlPort, () => ups);
http.listen(port, "127.0.0.1");
