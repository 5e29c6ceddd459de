/** Figures and names as they stand in a sentence; the same as `hybrid doctor` on the command line says. */

/** Best first. */
export const TRANSPORTS = ["websocket", "sse", "longpoll"];

export const TITLES = { websocket: "WebSocket", sse: "SSE", longpoll: "long polling" };

/** Of an answer's headers, what tells of its way here. */
const TELLING = ["via", "x-cache", "x-squid-error", "cf-ray"];
const LONGEST = 120;

/** 12 -> "12 ms", 1500 -> "1.5 s" */
export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** What a stranger wrote, without characters that cannot be seen. */
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}]/gu, "?").slice(0, LONGEST);
}

/** @param {Headers} headers of an answer of our own origin: of others a page sees next to nothing */
export function passed(headers) {
  const facts = TELLING.filter((name) => headers.get(name)).map(
    (name) => `${name[0].toUpperCase()}${name.slice(1)}: ${visible(headers.get(name))}`,
  );
  const coding = headers.get("content-encoding") ?? "identity";
  if (coding !== "identity") facts.push(`recompressed on the way (${visible(coding)})`);
  return facts;
}
