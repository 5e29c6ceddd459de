/**
 * MessagePack instead of JSON on a WebSocket, by the library of your choice:
 *
 *     import { decode, encode } from "@msgpack/msgpack";
 *     new Client({ url, codec: messagePack({ encode, decode }) });
 *
 * Bytes travel as they are; an application sees them as it does on the other transports, `{base64}` with `binary`.
 */

/** `encode(value)`: Uint8Array; `decode(bytes)`: the value. */
export const messagePack = ({ encode, decode }) => ({
  subprotocol: "hybrid.v1.msgpack",

  encode: (command) => {
    const plain = JSON.parse(JSON.stringify(command)); // what is undefined is left out, where libraries make it nil
    try {
      if (plain.binary) plain.data = bytesOf(plain.data.base64);
    } catch {
      // not base64: the server says so
    }
    return encode(plain);
  },

  /** The one push that a frame carries. */
  decode: (frame) => [shown(decode(new Uint8Array(frame)))],
});

/** Publications arrive one by one, and many in a reply. */
const shown = (push) => {
  const { publication, reply } = push;
  if (publication) return { ...push, publication: legible(publication) };
  if (reply?.publications) return { ...push, reply: { ...reply, publications: reply.publications.map(legible) } };
  return push;
};

const legible = (publication) =>
  publication.binary ? { ...publication, data: { base64: textOf(publication.data) } } : publication;

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt());

const textOf = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
