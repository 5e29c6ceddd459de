/**
 * What is in an event stream (WHATWG HTML, section 9.2.6), under any chunking.
 *
 * Unlike a browser's EventSource it is bounded: an event longer than `maximum` characters throws RangeError, or a
 * server (or what speaks in its place) could fill the page's memory by never ending a line. `id`, `event` and `retry`
 * are not for us: a session goes on from its positions.
 */
export class EventStreamParser {
  #rest = "";
  #data = [];
  #size = 0;
  #isAfterCr = false;

  /** `onEvent(data)`: of one event; blocks without data are none. */
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
    this.#bound(this.#rest);
  }

  #bound({ length }) {
    if (this.#size + length > this.maximum) throw new RangeError("too large");
  }

  #line(line) {
    if (!line) {
      if (this.#data.length) this.onEvent(this.#data.join("\n"));
      this.#data = [];
      this.#size = 0;
    }
    this.#bound(line);
    // What else there is: comments (padding, heartbeats; their arrival was the message), and fields of other names.
    const [, value] = /^data(?:: ?|$)(.*)/s.exec(line) ?? [];
    if (value === undefined) return;
    this.#size += line.length;
    this.#data.push(value);
  }
}
