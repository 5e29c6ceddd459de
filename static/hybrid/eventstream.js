/**
 * Incremental parser of text/event-stream (WHATWG HTML, section 9.2.6), under any chunking.
 *
 * Unlike a browser's EventSource it is bounded: an event longer than `maximum` characters throws RangeError, or a
 * server (or what speaks in its place) could fill the page's memory by never ending a line.
 */
export class EventStreamParser {
  #rest = "";
  #data = [];
  #fields = {};
  #size = 0;
  #isStart = true;

  /** `onEvent({data, event, id})`: one dispatched event; blocks without data are not dispatched. */
  constructor(onEvent, maximum = 4_194_304) {
    Object.assign(this, { onEvent, maximum });
  }

  feed(text) {
    if (this.#isStart && text) {
      this.#isStart = false;
      text = text.replace(/^\uFEFF/, "");
    }
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    // A CR at the very end may be half of a CRLF: it stays in the rest until the next chunk decides.
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
    else if (name === "event" || name === "id") this.#fields[name] = value;
  }

  #dispatch() {
    const event = { ...this.#fields, data: this.#data.join("\n") };
    const isEmpty = !this.#data.length;
    this.#data = [];
    this.#fields = {};
    this.#size = 0;
    if (!isEmpty) this.onEvent(event);
  }
}
