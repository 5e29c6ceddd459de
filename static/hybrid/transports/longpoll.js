/**
 * Repeated POSTs, each carrying the positions reached: what an answer that got lost had brought comes again (RFC 6202).
 * The sealed subscription list lives here: it is how any node can answer a poll.
 */

import { endOf } from "../codes.js";
import { post } from "./http.js";
import { openUplink } from "./uplink.js";

const GATEWAY_TIMEOUTS = [408, 504, 524];
const GATEWAY_FAILURES_MAX = 3;
const CUT_MIN_MS = 900; // a poll that ended without an answer after less was not cut for its silence
const WAIT_MIN_S = 0.5;
const LATE_MS = 2_000;
const WAIT_S = 25;
const MARGIN = 0.6; // of the patience shown
const EMPTY_PAUSE_MS = 500;

const isSupported = ({ fetch }) => fetch;

const open = (context) => {
  const { environment, memory } = context;
  let sealed = "";
  let polled = ""; // the list that the poll in flight carries
  let waitS = memory.wait_s ?? WAIT_S;
  let cutMs; // how long the last poll lived that was cut
  let isAsked = false; // somebody wants to know at once whether we are heard
  let polling;
  let isClosed = false;
  let isRunning = false;

  const isListed = ({ method }) => /subscribe$/.test(method);
  const repeat = () => {
    if (sealed !== polled) polling?.abort();
  };
  const uplink = openUplink(
    {
      ...context,
      onPush(push) {
        sealed = push.reply.sealed || sealed;
        context.onPush(push);
      },
    },
    {
      // Each brings a new list made from the one it carried: two at once would lose the first one's change.
      isAlone: isListed,
      prepare: (command) => (isListed(command) ? { ...command, sealed } : command),
      onIdle: repeat,
    },
  );

  /** True when the answer held something. */
  const exchange = async (body) => {
    polling = new AbortController();
    const response = await post(context, "/stream", body, "application/json", polling.signal);
    const { pushes } = await response.json();
    if (isClosed || polling.signal.aborted) return true;
    context.onAlive();
    for (const push of pushes) {
      const { attached, subscribed } = push;
      // Two heartbeats: shorter than the silence at which the leg is dropped.
      if (attached) waitS = Math.min(waitS, attached.limits.poll_wait_max_s, 2 * attached.heartbeat_interval_s);
      if (subscribed) sealed = subscribed.sealed ?? "";
      context.onPush(push);
    }
    return pushes.length > 0;
  };

  const poll = async (confirm) => {
    isRunning = true;
    for (let failures = 0; !isClosed;) {
      polled = sealed;
      const isWaiting = !isAsked;
      isAsked = false;
      const startedMs = environment.now();
      try {
        const isFull = await exchange({
          method: "poll",
          session: context.session(),
          attempt: context.attach.attempt,
          last_seq: context.lastSeq(),
          positions: context.positions(),
          sealed,
          wait_s: isWaiting ? waitS : 0,
          ...(confirm && { confirm }),
        });
        failures = 0;
        confirm &&= polling.signal.aborted;
        // An empty answer long before its time (two tabs of one session, a bad proxy) must not become a hot loop.
        if (!isFull && isWaiting && environment.now() - startedMs < EMPTY_PAUSE_MS)
          await new Promise((resolve) => environment.setTimeout(resolve, EMPTY_PAUSE_MS));
      } catch (error) {
        if (polling.signal.aborted) continue;
        const livedMs = environment.now() - startedMs;
        const isGateway = GATEWAY_TIMEOUTS.includes(error.status);
        const isCut = livedMs > CUT_MIN_MS && (isGateway || !error.status || error.status === 502);
        if (error.number || !isCut || ++failures === GATEWAY_FAILURES_MAX) throw error;
        // A gateway that gives up on a waiting request is told apart from a dead one by asking for less. Without its
        // word: cut once may be anything, twice after the same time is no coincidence.
        if (isGateway || Math.abs(livedMs - cutMs) < livedMs / 5) {
          waitS = Math.max(WAIT_MIN_S, Math.min(waitS / 2, (livedMs * MARGIN) / 1000));
          memory.keep({ wait_s: waitS });
        }
        cutMs = livedMs;
      }
    }
  };

  const run = (promise) => promise.catch((error) => context.onEnd(endOf(error)));

  run(
    exchange(context.attach).then(() => {
      if (context.attach.confirm && !isClosed) return poll();
    }),
  );

  return {
    send: uplink.send,
    confirm() {
      if (!isRunning) run(poll(true));
    },
    /** An answer is overdue after so long. */
    waitMs: () => waitS * 1000 + LATE_MS,
    ask() {
      isAsked = true;
      polling?.abort();
    },
    close() {
      isClosed = true;
      polling?.abort();
      uplink.close();
    },
  };
};

/** A polled session numbers no commands: each carries the list instead. */
export const longpoll = { isPolled: true, isSupported, open };
