/**
 * What a page does with any peer's client: `window.peer` connects, tells of each message and of each connection
 * that takes over, and sends numbers. It keeps what it saw with the time of it, and judges nothing. Times are milliseconds since `start()`.
 */

{
  const SEND_EVERY_MS = 20;
  const seen = { got: [], transports: [], sent: 0 };
  let startedMs;

  const now = () => performance.now() - startedMs;

  window.course = {
    start(options) {
      startedMs = performance.now();
      window.peer.connect(options, {
        message: ({ life, n }) => seen.got.push([life, n, now()]),
        transport: (name) => seen.transports.push([name, now()]),
      });
    },

    /** Sends 0 to count - 1 at a pace. */
    send(count) {
      const beganMs = performance.now();
      const pacer = setInterval(() => {
        // A timer that comes late makes up for it.
        for (; seen.sent < count && performance.now() - beganMs >= seen.sent * SEND_EVERY_MS; seen.sent++)
          window.peer.send(seen.sent);
        if (seen.sent === count) clearInterval(pacer);
      }, SEND_EVERY_MS);
    },

    count: () => seen.got.length,
    now,
    seen: () => seen,
  };
}
