/** The examination as plain text, for whoever keeps the network. Pure. */

import { TITLES, TRANSPORTS } from "./words.js";

/** What its keeper can do about each flaw. */
const ADVICE = {
  upgrade_stripped: "Let requests with `Upgrade: websocket` to this server pass unchanged.",
  foreign: "Sign in to the network first, where it asks for that; otherwise let requests to this server pass.",
  refused: "Let requests to this server pass: WebSocket handshakes too (`Upgrade: websocket`).",
  unanswered: "Answer requests to this server, or let them pass; do not drop them in silence.",
  mute: "Pass WebSocket frames and answers on as they come; what is opened must carry data.",
  stopped: "Pass WebSocket frames and answers on as they come, for as long as they are open.",
  cut: "Do not end connections to this server that are in use.",
  held: "Do not gather answers of the type text/event-stream: pass each piece on at once.",
  late: "Pass what the server sends on at once.",
  lumps: "Do not gather answers of the type text/event-stream, nor WebSocket frames: pass each piece on at once.",
  behind: "Do not hold events back until the next one comes: scanners of text/event-stream do.",
  posts: "Let POST requests to /v1/command pass.",
  changed: "Do not change what this server sends.",
  idle_cut: "Keep connections open that are silent for a minute.",
  idle_dead: "Keep connections open that are silent for a minute, and end what is ended with a FIN or RST.",
  life_cut: "Do not bound how long a connection may live, or by no less than ten minutes.",
};

/** The word for how a transport does; `idle` is what the silence came to, if it was tried. */
export function stateOf(finding, idle) {
  if (!finding.works) return "fails";
  if (finding.isOnlyHeard) return "heard";
  return finding.flaws?.length || idle?.flaws?.length ? "badly" : "works";
}

const STATES = { works: "works", badly: "works badly", fails: "fails", heard: "reached" };

/** What its keeper can do, each once, in the order of the transports. */
export function adviceFor(findings) {
  const flaws = findings.flatMap((finding) => finding.flaws ?? []);
  return [...new Set(flaws.map((flaw) => ADVICE[flaw]).filter(Boolean))];
}

/** @returns {string} */
export function report({ findings, sentence, server, browser, at }) {
  const found = Object.fromEntries(findings.map((finding) => [finding.name, finding]));
  const lines = [`What the network does between this browser and ${server}`, `${at}, ${browser}`, "", sentence, ""];
  for (const name of ["server", ...TRANSPORTS]) {
    const finding = found[name];
    if (!finding) continue;
    const idle = found[`${name}-idle`];
    const facts = [...finding.facts, ...(idle ? [`in silence: ${idle.facts[0]}`] : [])];
    const title = name === "server" ? "Server" : TITLES[name].replace("long", "Long");
    lines.push(`${title}: ${name === "server" ? "" : `${STATES[stateOf(finding, idle)]}; `}${facts.join("; ")}.`);
  }
  const advice = adviceFor(findings);
  if (advice.length) lines.push("", "What would help:", ...advice.map((sentence) => `- ${sentence}`));
  return `${lines.join("\n")}\n`;
}
