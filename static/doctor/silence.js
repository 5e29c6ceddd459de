/**
 * What becomes of connections on which nothing is said. The server's heartbeats bound what can be seen: a silence longer
 * than their interval does not occur, and does not have to be survived. `onBegin` is called when a silence begins.
 * Nothing here rejects.
 */

import { Broken, Told, fails, works } from "./outcome.js";
import { pause } from "./time.js";
import { duration } from "./words.js";

/**
 * Hold two: what is told is of the silent one, and whether heartbeats that are asked for more often help where they are
 * needed; that is seen, not concluded.
 */
export async function holdLines(silent, beating, options) {
  const [finding, other] = await Promise.all([
    holdLine(silent, options),
    holdLine(beating, { ...options, onBegin: () => {} }),
  ]);
  if (!isIdleEnd(finding) || !beating.attached) return finding;
  const often = `a heartbeat every ${beating.attached.heartbeat_interval_s} s`;
  if (other.works && !other.flaws.length)
    return { ...finding, facts: [`${finding.facts[0]}; with ${often} it stays open`], flaws: [] };
  const isOf = isIdleEnd(other);
  const told = isOf ? `${often} does not keep it open` : `whether ${often} helps is not known, ${other.facts[0]}`;
  return { ...finding, facts: [`${finding.facts[0]}; ${told}`] };
}

function isIdleEnd({ flaws }) {
  return flaws.includes("idle_cut") || flaws.includes("idle_dead");
}

/** Open a line, say nothing for `idle`, then ask whether it is still there. */
export async function holdLine(line, { pace, idle, onBegin }) {
  const name = `${line.name}-idle`;
  try {
    await line.open();
  } catch (error) {
    return fails(name, "refused", [`cannot be opened again: ${error.message}`]);
  }
  onBegin();
  const interval = line.attached.heartbeat_interval_s * 1000;
  const began = performance.now();
  let heardAt = began;
  let survived = 0;
  let heartbeats = 0;
  let onHeartbeat = () => {};
  line.onPush = (push) => {
    if (push.heartbeat) onHeartbeat();
  };
  const quiet = () => performance.now() - heardAt;
  const heartbeat = () =>
    new Promise((resolve) => {
      onHeartbeat = () => resolve(true);
    });
  try {
    for (;;) {
      const left = Math.min(began + idle, heardAt + interval + pace.patience) - performance.now();
      if (await pause(left, Promise.race([heartbeat(), line.broken]))) {
        survived = Math.max(survived, quiet());
        heardAt = performance.now();
        heartbeats += 1;
        line.answer();
      } else if (performance.now() < began + idle) {
        return dead(name, Math.min(interval, quiet()));
      } else break;
    }
    const before = quiet();
    const answered = heartbeat();
    // Twice: where each event is held back until the next one comes, the first answer needs the second.
    for (let number = 1; ; number += 1) {
      if (number > 2) return dead(name, before);
      await line.ask(number);
      if (await pause(pace.patience / 2, Promise.race([answered, line.broken]))) break;
    }
    return held(name, performance.now() - began, Math.max(survived, before), heartbeats);
  } catch (error) {
    if (error instanceof Told)
      return works(name, [`ended by the server itself after ${duration(performance.now() - began)}: ${error.message}`]);
    if (error instanceof Broken && error.flaw === "posts") return fails(name, "posts", error.facts);
    return cut(name, { quiet: quiet(), total: performance.now() - began, survived });
  }
}

/** A poll that waits as long as the client's, or `idle`. */
export async function holdPoll(polling, { idle, onBegin }) {
  const name = "longpoll-idle";
  let began = performance.now();
  let wait = idle;
  try {
    await polling.attach();
    wait = Math.min(idle, polling.attached.limits.poll_wait_max_s * 1000);
    onBegin();
    began = performance.now();
    await polling.poll(wait);
  } catch (error) {
    if (error instanceof Told) return works(name, [`ended by the server itself: ${error.message}`]);
    const after = duration(performance.now() - began);
    return works(name, [`a request that waits is cut after ${after} (${error.message}); shorter ones are used then`], {
      cutAfter: performance.now() - began,
      isCut: true,
    });
  }
  return works(name, [`a request that waits for ${duration(wait)} is answered`]);
}

function held(name, total, survived, heartbeats) {
  const beats = heartbeats ? `, and ${heartbeats} heartbeat${heartbeats === 1 ? "" : "s"} came` : "";
  return works(name, [`still there after ${duration(total)}, ${duration(survived)} of it without a byte${beats}`]);
}

function cut(name, { quiet, total, survived }) {
  // It has lived through a longer silence, so this one is not why.
  if (quiet < survived) {
    const told = `cut ${duration(total)} after its beginning, though it was in use`;
    return works(name, [told], { flaws: ["life_cut"], cutAfter: total, isCut: true });
  }
  return works(name, [`idle cut after ${duration(quiet)}`], { flaws: ["idle_cut"], cutAfter: total, isCut: true });
}

function dead(name, quiet) {
  const told = `found silently dead after ${duration(quiet)} without traffic`;
  return works(name, [told], { flaws: ["idle_dead"], isCut: true });
}
