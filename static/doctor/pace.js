/** How long things may take, in milliseconds; as `hybrid/client/doctor/finding.py` has it. */

export const PACE = {
  /** For whatever should come at once: below the 10 s after which clients give a transport up. */
  patience: 8_000,
  /** How long the poll waits that is tried: gateways that cut waiting requests sooner are rare. */
  wait: 5_000,
  /** What comes so much later than the head of its answer was held back: the server writes both at once. */
  held: 1_000,
  /** Between two heartbeats that are asked for: no more often, says the protocol. */
  gap: 1_000,
  /** How many are asked for. */
  beats: 4,
  /** In seconds, what connections beside the silent ones ask for: the shortest that a server grants by default. */
  heartbeatS: 5,
  /** For the last of them, after which it counts as held back. */
  grace: 2_000,
};
