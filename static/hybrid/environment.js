/** Everything taken from the platform, gathered when a client is made and replaceable piece by piece. */

export const platform = () => ({
  WebSocket: globalThis.WebSocket,
  fetch: (...request) => fetch(...request),
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
  now: Date.now,
  location: globalThis.location?.href,
  storage: storage(),
  onWake,
  makeKey,
});

/** Reading the property itself throws where cookies are blocked. */
const storage = () => {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined;
  }
};

/**
 * Calls back when the network, or the page, returns: shown again, out of the back/forward cache, thawed. Gives the
 * function that stops it.
 */
const onWake = (callback) => {
  const { document } = globalThis;
  const wakes = { online: globalThis, pageshow: globalThis, visibilitychange: document, resume: document };
  const listener = ({ type }) => (type === "online" || document?.visibilityState !== "hidden") && callback();
  for (const type in wakes) wakes[type]?.addEventListener?.(type, listener);
  return () => {
    for (const type in wakes) wakes[type]?.removeEventListener?.(type, listener);
  };
};

/** 128 random bits. `randomUUID` is missing on pages that came over plain http. */
const makeKey = () =>
  crypto.randomUUID?.() ??
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
