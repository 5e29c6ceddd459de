/**
 * What hybrid will use, and why, from what was found. Pure.
 *
 * `hybrid doctor` says it in the same words, `hybrid/client/doctor/verdict.py`; `tests/vectors/verdicts.json` keeps the
 * two alike.
 */

import { TITLES, TRANSPORTS } from "./words.js";

/**
 * @typedef {{name: string, works: boolean, facts: string[], flaws?: string[]}} Finding
 *   `name`: "server", a transport, or a transport and "-idle"; `facts`: sentences, the verdict first; `flaws`: what it
 *   suffers from, as words for machines: with one a transport works, but badly
 */

/**
 * The best transport that works without a flaw, else the best that works at all.
 * @param {Finding[]} findings
 * @returns {{willUse: string | null, sentence: string}}
 */
export function conclude(findings) {
  const found = Object.fromEntries(findings.map((finding) => [finding.name, finding]));
  const able = TRANSPORTS.filter((name) => found[name]?.works);
  if (!able.length) return { willUse: null, sentence: whyNone(findings) };
  const flaws = Object.fromEntries(able.map((name) => [name, flawOf(found, name)]));
  const chosen = able.find((name) => !flaws[name]) ?? able[0];
  if (found.tls?.flaws?.includes("untrusted")) {
    const why = found.tls.facts[0];
    const sentence = `hybrid will not go through here: ${why}; but for that it would use ${TITLES[chosen]}.`;
    return { willUse: null, sentence };
  }
  const better = TRANSPORTS.slice(0, TRANSPORTS.indexOf(chosen)).filter((name) => found[name]);
  const reasons = better.map((name) =>
    able.includes(name)
      ? `${TITLES[name]} works badly, ${flaws[name]}`
      : `${TITLES[name]} fails, ${found[name].facts[0]}`,
  );
  if (flaws[chosen])
    reasons.push(better.length ? `${TITLES[chosen]} works badly as well, ${flaws[chosen]}` : flaws[chosen]);
  if (reasons.length)
    return { willUse: chosen, sentence: `hybrid will use ${TITLES[chosen]} here: ${reasons.join("; ")}.` };
  const spare = able.filter((name) => name !== chosen && !flaws[name]).map((name) => TITLES[name]);
  const more = spare.length ? `; ${spare.join(" and ")} would work too` : "";
  return { willUse: chosen, sentence: `hybrid will use ${TITLES[chosen]} here, the best of the three${more}.` };
}

function whyNone(findings) {
  const first = findings.find((finding) => !finding.works);
  if (!first) return "No transport has been tried yet.";
  return `hybrid cannot get through here${TRANSPORTS.includes(first.name) ? "" : `: ${first.facts[0]}`}.`;
}

/** In words, "" where there is none: the sentence that tells it. */
export function flawOf(found, name) {
  const idle = found[`${name}-idle`];
  if (found[name].flaws?.length) return found[name].facts[1]; // behind how quickly it was open
  return idle?.flaws?.length ? idle.facts[0] : "";
}
