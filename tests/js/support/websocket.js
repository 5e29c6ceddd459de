/**
 * A WebSocket client (RFC 6455) as small as the tests against a real server need: text frames, pings, closes; for
 * versions of Node that have none. It has the part of the browser's interface that the client uses.
 */

import { randomBytes } from "node:crypto";
import { request } from "node:http";

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class MinimalWebSocket {
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;
  #socket;
  #bytes = Buffer.alloc(0);
  #text = [];

  constructor(url, protocols) {
    const asked = request(url.replace(/^ws/, "http"), {
      headers: {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
        "Sec-WebSocket-Protocol": protocols.join(", "),
      },
    });
    asked.on("upgrade", (_, socket, head) => this.#opened(socket, head));
    asked.on("response", (response) => {
      response.resume();
      this.#closed(1006, "");
    });
    asked.on("error", () => this.#closed(1006, ""));
    asked.end();
  }

  send(text) {
    this.#write(TEXT, Buffer.from(text));
  }

  close(code) {
    if (this.readyState === 0) this.readyState = 2;
    if (this.readyState !== 1) return;
    this.readyState = 2;
    this.#write(CLOSE, code ? Buffer.from([code >> 8, code & 255]) : Buffer.alloc(0));
    this.#socket.end();
  }

  #opened(socket, head) {
    this.#socket = socket;
    if (this.readyState === 2) return socket.destroy();
    this.readyState = 1;
    socket.on("data", (bytes) => this.#received(bytes));
    socket.on("close", () => this.#closed(1006, ""));
    socket.on("error", () => {});
    this.onopen?.();
    if (head.length) this.#received(head);
  }

  #received(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (;;) {
      const [first, second] = this.#bytes;
      let size = second & 127;
      let start = 2;
      if (this.#bytes.length < 2 || (size > 125 && this.#bytes.length < (size === 126 ? 4 : 10))) return;
      if (size === 126) [size, start] = [this.#bytes.readUInt16BE(2), 4];
      else if (size === 127) [size, start] = [Number(this.#bytes.readBigUInt64BE(2)), 10];
      if (this.#bytes.length < start + size) return;
      const payload = this.#bytes.subarray(start, start + size);
      this.#bytes = this.#bytes.subarray(start + size);
      this.#frame(first & 15, Boolean(first & 128), payload);
    }
  }

  #frame(opcode, isLast, payload) {
    if (opcode === PING) this.#write(PONG, payload);
    else if (opcode === CLOSE) {
      this.#socket.end();
      this.#closed(payload.length ? payload.readUInt16BE(0) : 1005, payload.subarray(2).toString());
    } else if (opcode <= TEXT) {
      this.#text.push(payload);
      if (!isLast) return;
      const data = Buffer.concat(this.#text).toString();
      this.#text = [];
      this.onmessage?.({ data });
    }
  }

  #write(opcode, payload) {
    const mask = randomBytes(4);
    const size = payload.length;
    const head =
      size < 126
        ? [size | 128]
        : size < 65_536
          ? [254, size >> 8, size & 255]
          : [255, 0, 0, 0, 0, size >>> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255];
    const masked = payload.map((byte, index) => byte ^ mask[index & 3]);
    this.#socket.write(Buffer.concat([Buffer.from([opcode | 128, ...head]), mask, masked]));
  }

  #closed(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
