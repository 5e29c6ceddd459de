/**
 * The `ws` library, as it comes, on a plain channel: HYBRID_URL is the channel's, HYBRID_TOKEN a token for it. Prints the
 * extension that was agreed on, and then the data of each publication as JSON.
 */

import { WebSocket } from "ws";

const { HYBRID_URL: url, HYBRID_TOKEN: token } = globalThis.process.env;
const socket = new WebSocket(url);
socket.on("open", () => {
  // `ws` compresses what is longer than its threshold; a token's frame that is padded with spaces is.
  socket.send(JSON.stringify({ method: "auth", token }).padEnd(4_000));
  console.log(socket.extensions);
});
socket.on("message", (message) => console.log(JSON.stringify(JSON.parse(message).data)));
socket.on("close", (code) => console.log(`closed ${code}`));
