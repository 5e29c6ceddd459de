/** Errors and what their numbers ask of us. The table of numbers is in `docs/protocol.md`, section "Errors". */

export const BAD_REQUEST = 3400;
export const UNAUTHORIZED = 3401;
export const SESSION_UNKNOWN = 3404;
export const OUT_OF_ORDER = 3409;
export const UNRECOVERABLE = 3410;
export const ALREADY_SUBSCRIBED = 3411;
export const TOO_LARGE = 3413;
export const OUTCOME_UNKNOWN = 3414;
export const NOT_OFFERED = 3416;
export const LIMIT_EXCEEDED = 3429;
export const BROKER_UNAVAILABLE = 3503;
export const TOKEN_EXPIRED = 4401;
export const ROTATED = 4412;
export const TOKEN_REFUSED = 4501;
export const REPLACED = 4509;

/** What promises reject with and the "error" event carries. `number` is 0 for what this client found by itself. */
export class HybridError extends Error {
  /** `name` is the one of the table ("forbidden"), or our own: "timeout", "disconnected", "unreachable", ... */
  constructor(number, name, detail = "", facts = {}) {
    super(detail || name);
    Object.assign(this, { number, name, ...facts });
  }

  static fromWire({ number = 0, name, detail, retry_after_s: retryAfterS }) {
    return new HybridError(number, name ?? `error ${number}`, detail, { retryAfterS });
  }
}

/** True when the server has decided, and any transport would meet the same answer. `replaced` has its own rule. */
export const isStayAway = (code) => code >= 4500 && code < 5000 && code !== REPLACED;

/** True for WebSocket's own verdicts on our frames: the same would fail again on that transport, not on the others. */
export const isTransportRefused = (code) => [1002, 1003, 1007, 1008, 1009].includes(code);

/** True when the same command may succeed a little later: a limit, the broker or the issuer's keys. */
export const isPassing = ({ number, retryAfterS }) =>
  (number >= 3503 && number <= 3505) || (number === LIMIT_EXCEEDED && retryAfterS > 0);

/** True when a token, or its absence, was the reason: the next try needs another one. */
export const isTokenSpent = (code) => [UNAUTHORIZED, TOKEN_EXPIRED, TOKEN_REFUSED].includes(code);

/** How a leg ends for this error. */
export const endOf = (error) => ({
  code: error.number ?? 0,
  status: error.status,
  reason: error.message || String(error),
  delayMs: ((error.number && error.retryAfterS) || 0) * 1000,
});
