/**
 * Socket.IO with connection state recovery: `node socketio.mjs PORT CONTROL_PORT`. Acknowledges what comes up,
 * which the client's `retries` wait for.
 */

import { createServer } from "node:http";

import { Server } from "socket.io";

import { control, feed, page } from "./feed.mjs";

const [port, controlPort] = process.argv.slice(2).map(Number);
const ups = [];

const http = createServer(page);
const io = new Server(http, { connectionStateRecovery: { maxDisconnectionDuration: 2 * 60 * 1000 } });
io.on("connection", (socket) => {
  socket.on("up", (n, acknowledge) => {
    ups.push(n);
    acknowledge();
  });
});
feed((message) => io.emit("feed", message));
control(controlPort, () => ups);
http.listen(port, "127.0.0.1");
