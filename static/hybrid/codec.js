/** JSON to and from the wire. A text frame carries one object, or several separated by newlines. */

/** The objects in one frame or event, in order. Throws SyntaxError where one of them is not a JSON object. */
export const decode = (text) =>
  text
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => {
      const value = JSON.parse(line);
      if (value?.constructor !== Object) throw new SyntaxError("no object");
      return value;
    });

export const encode = (value) => JSON.stringify(value);

/** What a WebSocket speaks unless another codec is given; see messagepack.js. */
export const json = { subprotocol: "hybrid.v1", encode, decode };

const utf8 = new TextEncoder();

/** Bytes, as the server's limits count them. */
export const byteLength = (text) => utf8.encode(text).length;

/** The protocol's rule for names. One bad name would have every attach refused that carries it. */
export const isChannelName = (name) =>
  /^(?!\.{1,2}$)[^*\p{Cc}\p{Cs}]+$/u.test(name) && name === name.normalize() && byteLength(name) <= 255;
