/** Everything taken from the platform, gathered when a client is made and replaceable piece by piece. */

export const platform = () => ({
  WebSocket: globalThis.WebSocket,
  fetch: (...request) => fetch(...request),
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
  now: Date.now,
  location: globalThis.location?.href,
  locks: globalThis.document && globalThis.navigator?.locks, // of pages: elsewhere there are no tabs
  storage: storage(),
  isHidden,
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

const isHidden = () => globalThis.document?.hidden;

/**
 * Calls `onWoken` when the network, or the page, returns: shown again, out of the back/forward cache, thawed; and
 * `onAsleep` when the page is put away: into that cache, or frozen. Gives the function that stops it.
 */
const onWake = (onWoken, onAsleep) => {
  const listener = ({ type, persisted }) => {
    if (type === "freeze" || (type === "pagehide" && persisted)) onAsleep();
    else if (type !== "pagehide" && (type !== "visibilitychange" || !isHidden())) onWoken();
  };
  const each = (act) => {
    for (const type of ["online", "pageshow", "pagehide", "visibilitychange", "resume", "freeze"])
      // Each comes to one of them, whichever; twice would do no harm.
      for (const target of [globalThis, globalThis.document]) target?.[`${act}EventListener`]?.(type, listener);
  };
  each("add");
  return () => each("remove");
};

/** 128 random bits. `randomUUID` is missing on pages that came over plain http. */
const makeKey = () => crypto.getRandomValues(new Uint32Array(4)).join(".");
