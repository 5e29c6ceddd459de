/**
 * What is tried, one thing after the other, and what each came to. Nothing here rejects but with Told, the server's own
 * word. `onBeats` is called with what has been asked for and has come so far, in milliseconds since the try began.
 */

import { Broken, fails, works } from "./outcome.js";
import { judge } from "./rhythm.js";
import { Late, pause, within } from "./time.js";
import { duration, passed } from "./words.js";

/** Is there a hybrid server at all? */
export async function tryServer({ pace }) {
  const began = performance.now();
  let response;
  try {
    response = await within(fetch("/v1/ping", { cache: "no-store" }), pace.patience);
  } catch (error) {
    const told = error instanceof Late ? `no answer within ${pace.patience / 1000} s` : "cannot be reached";
    return fails("server", "unreachable", [told]);
  }
  const took = performance.now() - began;
  const facts = [`answered in ${duration(took)}`, ...passed(response.headers)];
  const clock = await response.json().catch(() => null);
  if (response.ok && Number.isInteger(clock?.at_ms)) return works("server", facts, { figures: { open: took } });
  const told = `HTTP ${response.status} that is not hybrid's: a sign-in page of the network, or another server`;
  return fails("server", "foreign", [told, ...facts]);
}

/** Open a line and ask for heartbeats; it stays open. */
export async function tryLine(line, { pace, onBeats }) {
  const began = performance.now();
  let first;
  let beats;
  try {
    await line.open();
    first = performance.now() - began;
    beats = await askForBeats(line, { pace, began, onBeats });
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const isLater = error.flaw === "cut" && line.attached;
    const after = isLater ? ` after ${duration(performance.now() - began)}` : "";
    return fails(line.name, error.flaw, [error.facts[0] + after, ...error.facts.slice(1)]);
  }
  const rhythm = judge(beats, pace);
  const isSocket = line.name === "websocket";
  const opened = isSocket ? `open after ${duration(line.head)}` : `first event after ${duration(first)}`;
  const more = { beats, figures: { open: isSocket ? line.head : first, lag: rhythm.lag } };
  if (rhythm.kind === "mute")
    return { ...fails(line.name, "mute", [`${opened}, and then nothing comes through any more`, ...line.facts]), ...more };
  if (rhythm.kind === "stopped") {
    const told = `${opened}, but only ${rhythm.count} of ${beats.length} heartbeats came, and nothing behind them`;
    return { ...fails(line.name, "stopped", [told, ...line.facts]), ...more };
  }
  const facts = [];
  const flaws = [];
  if (rhythm.kind !== "even") {
    facts.push(flawInWords(rhythm));
    flaws.push(rhythm.kind);
  }
  if (!isSocket && first - line.head >= pace.held) {
    facts.push(`the body was held back for ${duration(first - line.head)}`);
    flaws.push("held");
  }
  const each = rhythm.kind === "even" ? `; heartbeats come ${duration(rhythm.lag)} after they are asked for` : "";
  return works(line.name, [opened + each, ...facts, ...line.facts], { flaws, ...more });
}

/** Attach, and let one poll wait. */
export async function tryPolling(polling, { pace, onBeats }) {
  const began = performance.now();
  const since = () => performance.now() - began;
  const beats = [{ sent: 0, came: null, waits: false }];
  try {
    onBeats(beats);
    await polling.attach();
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    return { ...fails("longpoll", error.flaw, error.facts), beats };
  }
  const first = since();
  beats[0].came = first;
  const poll = { sent: first, came: null, waits: true };
  beats.push(poll);
  onBeats(beats);
  const told = `answered in ${duration(first)}`;
  const more = { beats, figures: { open: first } };
  try {
    await polling.poll(pace.wait);
    poll.came = since();
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    // The client asks for half of the time then, and so on: no reason to give long polling up.
    const cut = `a poll that waits is cut after ${duration(since() - first)} (${error.facts[0]}); shorter ones are used then`;
    return works("longpoll", [told, cut, ...error.facts.slice(1)], more);
  }
  const waited = `, a poll of ${pace.wait / 1000} s after ${duration(poll.came - first)}`;
  return works("longpoll", [told + waited, ...polling.facts], more);
}

async function askForBeats(line, { pace, began, onBeats }) {
  const beats = [];
  let came = 0;
  let onAll = () => {};
  line.onPush = (push) => {
    const beat = beats[(push.heartbeat?.echo ?? 0) - 1];
    if (!beat || beat.came !== null) return;
    beat.came = performance.now() - began;
    came += 1;
    onBeats(beats);
    if (came === beats.length) onAll();
  };
  const ask = () => {
    beats.push({ sent: performance.now() - began, came: null });
    onBeats(beats);
    return line.ask(beats.length);
  };
  const next = () => began + beats.at(-1).sent + pace.gap - performance.now();
  for (let count = 1; count < pace.beats; count += 1) {
    await ask();
    await pause(next(), line.broken);
  }
  const all = new Promise((resolve) => {
    onAll = () => came === beats.length && resolve();
  });
  await ask();
  onAll();
  await pause(pace.grace, Promise.race([all, line.broken]));
  if (came < beats.length) {
    await ask(); // what is held back until something follows comes with this one
    await pause(pace.grace, Promise.race([all, line.broken]));
  }
  line.onPush = () => {};
  return beats;
}

function flawInWords({ kind, lag, count }) {
  if (kind === "behind") return "one behind: each event is held back until the next one comes, and the last one for ever";
  if (kind === "lumps") return `in lumps: up to ${count} events at once, up to ${duration(lag)} late`;
  return `each event is held back for ${duration(lag)}`;
}

