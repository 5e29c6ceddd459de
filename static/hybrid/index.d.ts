/** The public surface, kept by hand and checked by a test. Words and numbers are those of docs/protocol.md. */

export type TransportName = "websocket" | "sse" | "longpoll";
/** "shared": over the connection of another tab, or with other tabs over one that this tab holds for all. */
export type CarrierName = TransportName | "shared";
export type ClientState = "disconnected" | "connecting" | "connected";
export type ChannelState = "unsubscribed" | "subscribing" | "subscribed";
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** The last publication an application has got. `{offset: 0}` is the start: it has neither epoch nor tag. */
export interface Position {
  readonly offset: number;
  readonly epoch?: string;
  readonly tag?: string;
}

export interface Publication {
  readonly channel: string;
  readonly offset: number;
  readonly epoch: string;
  readonly tag: string;
  readonly type?: string;
  readonly data: Json;
  /** True: `data` is `{base64}` standing for bytes. */
  readonly binary?: boolean;
}

/** A publication and the transport that brought it. */
export interface DeliveredPublication extends Publication {
  readonly transport: CarrierName;
}

export interface PresenceEntry {
  readonly subject: string;
  readonly client?: string;
}

/** How one transport failed; `code` is 0 where nobody gave a number. */
export interface Attempt {
  readonly transport: CarrierName;
  readonly code: number;
  readonly reason: string;
  readonly delayMs: number;
}

/**
 * `number` and `name` are those of the protocol's table of errors. What the client finds by itself has number 0 and the
 * name "disconnected", "timeout", "unreachable", "superseded" or "move_failed".
 */
export class HybridError extends Error {
  readonly number: number;
  readonly retryAfterS?: number;
  /** Of a connection error: each transport tried, and its reason. */
  readonly attempts?: readonly Attempt[];
  constructor(number: number, name: string, detail?: string, facts?: object);
}

export interface Stats {
  /** Publications given to the application. */
  received: number;
  /** Publications it had already, dropped here. */
  dropped: number;
  /** Times a publication was missing; the client went back to its position each time. */
  gaps: number;
  /** Legs that carried the session. */
  legs: number;
  reconnects: number;
  /** Of the last command answered; undefined before there was one. */
  latencyMs: number | undefined;
}

/** What is taken from the platform; each piece may be replaced, for tests and for places that are not browsers. */
export interface Environment {
  WebSocket?: unknown;
  fetch: typeof fetch;
  setTimeout(callback: () => void, delayMs: number): unknown;
  clearTimeout(timer: any): void;
  /** 0 <= random < 1 */
  random(): number;
  /** Milliseconds. */
  now(): number;
  /** Of tabs that share a connection; without it there is none. */
  locks?: Pick<LockManager, "request" | "query">;
  BroadcastChannel?: unknown;
  /** What a relative `url` is relative to. */
  location?: string;
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** True while nobody can see the page. */
  isHidden(): boolean;
  /**
   * Calls back when the network or the page returns, and when the page is put away (frozen, or into the back/forward
   * cache); gives the function that stops it.
   */
  onWake(onWoken: () => void, onAsleep: () => void): () => void;
  /** A fresh unguessable string of at most 64 characters. */
  makeKey(): string;
}

/** How a WebSocket's frames are written and read. `decode` gives the pushes of one frame. */
export interface Codec {
  readonly subprotocol: string;
  encode(command: object): string | Uint8Array;
  decode(frame: any): object[];
}

export interface ClientOptions {
  /** Of the API, e.g. "/v1" or "https://example.org/v1". */
  url: string;
  /** Asked only when a token is missing, over, or refused. Left out: anonymous. */
  getToken?: () => Promise<string> | string;
  /** In order of preference. All three by default. */
  transports?: readonly TransportName[];
  /** Told to the server, for its log. */
  name?: string;
  version?: string;
  /** Commands that may wait for an answer or a connection. 256 by default; more are rejected with `limit_exceeded`. */
  queueMax?: number;
  /** After which a command is given up. 60 000 by default. A publish that went out is then `outcome_unknown`. */
  timeoutMs?: number;
  /** What a WebSocket speaks; JSON by default. For MessagePack see messagepack.js. */
  codec?: Codec;
  /** Where to remember for a day what worked on this network; localStorage by default, where there is one. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /**
   * Tabs share one connection: those of one origin and browser with the same `url` and `transports` whose tokens speak
   * for the same issuer, subject and client with the same rights (opaque tokens: the same token), or which are all
   * anonymous. True by default; it has an effect in pages whose browser has Web Locks (and so a secure context). One
   * tab leads: it holds the connection for all and brings its own token. When it goes, another one takes over, and all
   * go on from their positions. A leader that cannot be reached is passed by. For the server, and in presence, the tabs
   * are one session.
   *
   * The code for it is loaded from beside this client (`tabs/`, or `hybrid.tabs.min.js`); where that cannot be had each
   * tab has its own connection, as with false.
   */
  tabs?: boolean;
  /** Writes the legs' events to the console. */
  debug?: boolean;
  environment?: Partial<Environment>;
}

export interface ClientEvents {
  state: { state: ClientState; transport?: CarrierName; reason?: string };
  /** Another leg carries the session. */
  transport: { transport: CarrierName; session: string; attempt: number };
  leg: {
    transport: CarrierName;
    attempt: number;
    event: "opened" | "attached" | "confirmed" | "lost" | "replaced";
    reason?: string;
  };
  /** The server asks for a subscription to `channel`, after `position`. To have it: `channel(...).subscribe()`. */
  subscribe: { channel: string; position: Position };
  /** A connection error, after each round in which all transports failed, and before the client gives up for good. */
  error: HybridError;
}

export interface ChannelEvents {
  /** In order, each exactly once. */
  publication: DeliveredPublication;
  /** Publications between the former position and this one cannot be had. */
  reset: { channel: string; position: Position };
  /** `error`: the server ended or refused the subscription. */
  state: { channel: string; state: ChannelState; error?: HybridError };
  join: { channel: string; subject: string; client?: string };
  leave: { channel: string; subject: string; client?: string };
}

interface Emits<Events> {
  /** Gives the function that takes the listener off again. */
  on<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): () => void;
  off<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): void;
}

export interface PublishOptions {
  /** Matches [A-Za-z0-9._-]{1,64}. */
  type?: string;
  /** Makes a repetition safe within the server's window; made up when left out. At most 128 bytes. */
  key?: string;
  /** `data` is `{base64}` standing for bytes. */
  binary?: boolean;
  /** Gives up waiting; what was sent may take effect all the same. */
  signal?: AbortSignal;
}

export interface CallOptions {
  /** Has a repetition carried out no second time, within the server's window; made up when left out. */
  key?: string;
  /** Gives up waiting; what was sent may take effect all the same. */
  signal?: AbortSignal;
}

export interface Published {
  position: Position;
  /** True: the log had it already, under this key. */
  repeated?: boolean;
}

/** Iterated, it gives its publications as they come. */
export interface Channel extends Emits<ChannelEvents>, AsyncIterable<DeliveredPublication> {
  readonly name: string;
  readonly state: ChannelState;
  /** Of the last publication the application has got; undefined before a subscription has begun. */
  readonly position: Position | undefined;
  /** Resolves when publications flow; rejects when refused, or with `disconnect()`. Waits for a connection. */
  subscribe(): Promise<void>;
  /** Resolves when the server has ended the subscription. Forgets the position. */
  unsubscribe(): Promise<void>;
  publish(data: Json, options?: PublishOptions): Promise<Published>;
  history(options?: {
    limit?: number;
    after?: Position;
    reverse?: boolean;
    signal?: AbortSignal;
  }): Promise<{ publications: Publication[]; head: Position }>;
  presence(options?: { signal?: AbortSignal }): Promise<{ entries: PresenceEntry[] }>;
}

export class Client implements Emits<ClientEvents> {
  constructor(options: ClientOptions);
  readonly state: ClientState;
  readonly transport: CarrierName | undefined;
  /** As the server told it at the last attach, e.g. `data_max_bytes`; undefined before the first one. */
  readonly limits: Readonly<Record<string, number>> | undefined;
  readonly session: string | undefined;
  readonly stats: Stats;
  on<Name extends keyof ClientEvents>(event: Name, listener: (value: ClientEvents[Name]) => void): () => void;
  off<Name extends keyof ClientEvents>(event: Name, listener: (value: ClientEvents[Name]) => void): void;
  connect(): void;
  /** What is unanswered is rejected; channels keep their positions and come back with the next `connect()`. */
  disconnect(): void;
  /**
   * Make-before-break. Rejects with the reason where the transport does not work; the session then stays as it is. From
   * then on this tab keeps to its own connection; "shared" ends that.
   */
  moveTo(transport: CarrierName): Promise<void>;
  /** For demonstrations: breaks the current leg without a goodbye. */
  cut(): void;
  /** The same object for the same name. The first subscribe starts at `position`, or `history` publications back. */
  channel(name: string, start?: { position?: Position; history?: number }): Channel;
  publish(channel: string, data: Json, options?: PublishOptions): Promise<Published>;
  /** What the server's handler `name` returns; rejects with what it refuses. Waits for a connection. */
  call(name: string, data?: Json, options?: CallOptions): Promise<Json>;
  /** Asks for a token now, and shows it to the server. It is asked for by itself before the old one ends. */
  refresh(): Promise<void>;
}
