/**
 * Incremental parser of text/event-stream (WHATWG HTML, section 9.2.6), under any chunking.
 *
 * Unlike a browser's EventSource it is bounded: an event longer than `maximum` characters throws RangeError, or a
 * server (or what speaks in its place) could fill the page's memory by never ending a line. `id` and `retry` are not
 * for us: a session goes on from its positions.
 */
export class EventStreamParser {
  #rest = "";
  #data = [];
  #event = "message";
  #size = 0;
  #isAfterCr = false;

  /** `onEvent({data, event})`: one dispatched event; blocks without data are not dispatched. */
  constructor(onEvent, maximum = 4_194_304) {
    Object.assign(this, { onEvent, maximum });
  }

  /** `text`: the next piece, already without the byte order mark, which TextDecoder takes away. */
  feed(text) {
    if (!text) return;
    // A CR ends its line at once; the LF that may follow it in the next piece then ends none.
    const next = this.#isAfterCr && text[0] === "\n" ? text.slice(1) : text;
    this.#isAfterCr = text.endsWith("\r");
    const lines = (this.#rest + next).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
    this.#bound(this.#rest.length);
  }

  #bound(more) {
    if (this.#size + more > this.maximum) throw new RangeError("event too large");
  }

  #line(line) {
    if (!line) return this.#dispatch();
    this.#bound(line.length);
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: padding or heartbeat; its arrival was the message
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    this.#size += line.length;
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value || "message";
  }

  #dispatch() {
    const data = this.#data;
    const event = this.#event;
    this.#data = [];
    this.#event = "message";
    this.#size = 0;
    if (data.length) this.onEvent({ data: data.join("\n"), event });
  }
}
