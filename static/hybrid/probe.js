/** Tells a server that is away from a network that spoils a transport: a plain request passes wherever anything does. */

const PROBE_TIMEOUT_MS = 5_000;

/** True when the server itself answers. Never rejects. */
export const probe = async ({ environment, url }) => {
  const aborter = new AbortController();
  const timer = environment.setTimeout(() => aborter.abort(), PROBE_TIMEOUT_MS);
  try {
    const response = await environment.fetch(`${url}/ping`, { cache: "no-store", signal: aborter.signal });
    // A sign-in page of the network, or the gateway in front of a server that is away, says something else.
    return (await response.json()).at_ms > 0;
  } catch {
    return false;
  } finally {
    environment.clearTimeout(timer);
  }
};
