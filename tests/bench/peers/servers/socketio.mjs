/**
 * A Socket.IO server for the bench: `node --expose-gc socketio.mjs`. The first line of its input is what it needs to
 * know (JSON), the first of its output says where it listens. `gc` on a line collects garbage; the end of its input
 * ends it. `engine` is "ws" or "uws".
 */

import { createServer } from "node:http";
import { createInterface } from "node:readline";

import jwt from "jsonwebtoken";
import { Server } from "socket.io";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = JSON.parse((await lines.next()).value);
const known = new Map();

/** Whose token it is; undefined for one that is not accepted. */
function subject(token) {
  const seen = known.get(token);
  if (seen !== undefined && seen.exp * 1000 > Date.now()) return seen.sub;
  try {
    const { issuer, audience } = order;
    const claims = jwt.verify(token, order.secret, { algorithms: ["HS256"], issuer, audience });
    known.set(token, claims);
    return claims.sub;
  } catch {
    return undefined;
  }
}

const bearer = (authorization) => subject((authorization ?? "").replace(/^Bearer /, ""));
const publish = (body) => io.to(order.room).emit("message", JSON.parse(body));

function serveNode() {
  const http = createServer(async (request, response) => {
    if (bearer(request.headers.authorization) === undefined) return response.writeHead(401).end();
    let body = "";
    for await (const part of request) body += part;
    publish(body);
    response.end("{}");
  });
  http.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => listening(http.address().port));
  return (io) => io.attach(http);
}

async function serveUws() {
  const { App, us_socket_local_port: portOf } = (await import("uWebSockets.js")).default;
  const app = App();
  app.post("/publish", (response, request) => {
    response.onAborted(() => {});
    if (bearer(request.getHeader("authorization")) === undefined) return response.writeStatus("401").end();
    let body = "";
    response.onData((part, isLast) => {
      body += Buffer.from(part).toString();
      if (!isLast) return;
      publish(body);
      response.end("{}");
    });
  });
  return (io) => {
    io.attachApp(app);
    app.listen("127.0.0.1", 0, (token) => listening(portOf(token)));
  };
}

function listening(port) {
  console.log(JSON.stringify({ port, loop: `node ${process.version}` }));
}

const attach = order.engine === "uws" ? await serveUws() : serveNode();
const io = new Server({ pingInterval: order.heartbeat_s * 1000, serveClient: false });
attach(io);
io.use((socket, next) => next(subject(socket.handshake.auth.token) ? undefined : new Error("unauthorized")));
io.on("connection", (socket) => socket.join(order.room));
io.engine.on("connection", (socket) => {
  socket.request = null; // as the documentation advises, to save memory
});

for await (const line of lines) {
  if (line !== "gc") continue;
  globalThis.gc();
  console.log("done");
}
process.exit(0);
