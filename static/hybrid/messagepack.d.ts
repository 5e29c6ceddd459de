import type { Codec } from "./index.js";

/** A codec from any MessagePack library: `new Client({ url, codec: messagePack({ encode, decode }) })`. */
export function messagePack(library: { encode(value: unknown): Uint8Array; decode(bytes: Uint8Array): unknown }): Codec;
