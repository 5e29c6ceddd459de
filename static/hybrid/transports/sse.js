/**
 * An event stream down, read from a streaming `fetch` (EventSource can neither POST nor carry a token), POSTs up.
 * Any byte is a sign of life: the padding and the heartbeats of proxies are comments.
 */

import { decode } from "../codec.js";
import { endOf } from "../codes.js";
import { EventStreamParser } from "../eventstream.js";
import { post } from "./http.js";
import { openUplink } from "./uplink.js";

const isSupported = ({ fetch }) => fetch && (globalThis.ReadableStream || globalThis.EventSource);

const open = (context) => {
  const aborter = new AbortController();
  const uplink = openUplink(context);

  const read = async () => {
    if (!globalThis.ReadableStream) return (await import("./eventsource.js")).read(context, aborter.signal);
    const response = await post(context, "/stream", context.attach, "text/event-stream", aborter.signal);
    if (!/event-stream/.test(response.headers.get("Content-Type"))) throw new Error("not an event stream");
    const parser = new EventStreamParser((data) => decode(data).forEach(context.onPush));
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the stream ended");
      context.onAlive();
      parser.feed(decoder.decode(value, { stream: true }));
    }
  };

  read().catch((error) => context.onEnd(endOf(error)));

  return {
    send: uplink.send,
    confirm: (command) => uplink.send([command]),
    ask: (command) => uplink.send([command]),
    close() {
      aborter.abort();
      uplink.close();
    },
  };
};

export const sse = { isSupported, open };
