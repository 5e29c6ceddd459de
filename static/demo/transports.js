/** What a person calls the transports, in order of preference. */

export const TRANSPORTS = Object.freeze(["websocket", "sse", "longpoll"]);

const WORDS = {
  websocket: { name: "WebSocket", spoken: "WebSocket", short: "WS" },
  sse: { name: "Server-Sent Events", spoken: "SSE", short: "SSE" },
  longpoll: { name: "Long polling", spoken: "long polling", short: "Poll" },
};

/** "websocket" -> "WebSocket"; a name this page has never heard of stays as it is, nothing becomes a dash. */
export function transportName(transport) {
  return WORDS[transport]?.name ?? transport ?? "–";
}

/** The same within a sentence that must fit one short line. */
export function transportSpoken(transport) {
  return WORDS[transport]?.spoken ?? transport ?? "–";
}

/** The same for a button or a mark. */
export function transportShort(transport) {
  return WORDS[transport]?.short ?? transport ?? "–";
}
