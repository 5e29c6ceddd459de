/** How a try can end: by the network's doing, or by the server's own word. */

import { passed, visible } from "./words.js";

/** The network's doing, as sentences; `flaw` for machines. */
export class Broken extends Error {
  constructor(flaw, ...facts) {
    super(facts[0]);
    this.flaw = flaw;
    this.facts = facts;
  }
}

/** The server's own word: nothing on the way is to blame. */
export class Told extends Error {
  constructor(number, detail) {
    super(visible(detail));
    this.number = number;
  }
}

const UNAUTHORIZED = 3401;

/** Who has answered instead of what was hoped for: a problem document (RFC 9457) with a number is our server's. */
export async function answeredBy(response) {
  const problem = await response.json().catch(() => null);
  if (Number.isInteger(problem?.number)) return new Told(problem.number, problem.detail ?? problem.name);
  return new Broken("refused", `answered with HTTP ${response.status}, not by the server`, ...passed(response.headers));
}

export function works(name, facts, more = {}) {
  return { name, works: true, facts, flaws: [], ...more };
}

export function fails(name, flaw, facts) {
  return { name, works: false, facts, flaws: [flaw] };
}

/** The finding for what the server itself has said. */
export function heard(name, told) {
  const isAsked = told.number === UNAUTHORIZED;
  const fact = isAsked
    ? "the server is heard, and wants a token; how events fare is seen with one only"
    : `the server is heard, and refuses: ${told.message}`;
  return works(name, [fact], { isOnlyHeard: true });
}
