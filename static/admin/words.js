/** What will be done, and what was, in sentences. Pure. */

import { count } from "../demo/format.js";

/** 1, "session" -> "1 session"; 2 -> "2 sessions" */
export function many(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** Whom an action is about: {subject: "alice"} -> "everything of the subject alice". */
export function whom(target) {
  const [[kind, name]] = Object.entries(target);
  return kind === "session" ? `the session ${name}` : `everything of the ${KINDS[kind] ?? kind} ${name}`;
}

const KINDS = { subject: "subject", client: "client", sid: "sign-in", jti: "token" };

export function disconnected({ sessions, streams, nodes, unanswered = [], repeated = false }) {
  const ended = [];
  if (sessions) ended.push(many(sessions, "session"));
  if (streams) ended.push(many(streams, "plain stream or poll", "plain streams and polls"));
  const what = ended.length ? `${ended.join(" and ")} ended` : "Nothing was open";
  return `${repeated ? "Done before: " : ""}${what}${reach(nodes, unanswered)}`;
}

export function revoked({ ended_here: ended }) {
  const here = ended ? `${many(ended, "connection")} of it ended at the node that answered` : "Nothing of it was open at the node that answered";
  return `Refused from now on, at every node. ${here}; the others follow within moments.`;
}

export function purged({ channel, position: { offset } }) {
  return offset
    ? `The history of ${channel} is empty. Its readers were told, and go on after place ${count(offset)}.`
    : `Nobody had ever published to ${channel}: there was nothing to empty.`;
}

export function drained({ node, streams }) {
  return `The node ${node} takes nobody in any more, and sends ${many(streams, "connection")} to the others. Restart it to have it back.`;
}

export function published(channel, { offset, repeated = false }) {
  return `${repeated ? "It had been published already" : "Published"}: it is in the log of ${channel}, at place ${count(offset)}.`;
}

/** An error for people: what happened, and what they can do. */
export function failure(error) {
  if (error.scope) return `Your token does not permit this: it lacks the scope ${error.scope}.`;
  if (error.kind === "offline") return `${error.message} It may have been done, or not. Try again: nothing is done twice.`;
  if (error.kind === "outcome_unknown") return `${error.message} It may have been done, or not. Look before you try again.`;
  return error.message;
}

/** How far an answer reaches: " on 2 nodes." with those that kept silent. */
export function reach(nodes, unanswered = []) {
  const all = nodes === 1 && !unanswered.length ? "." : `, on ${many(nodes, "node")}.`;
  if (!unanswered.length) return all;
  const names = unanswered.join(" and ");
  return `${all} ${names} did not answer in time: there it may have been done, or not.`;
}

/** 90061 -> "1 d 1 h"; the two largest units. */
export function span(value_s) {
  const units = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const told = [];
  let left = Math.max(0, Math.floor(value_s));
  for (const [name, size] of units) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole || (told.length === 0 && name === "s")) told.push(`${whole} ${name}`);
    else if (told.length) break;
    if (told.length === 2) break;
  }
  return told.join(" ");
}

/** A rate for people: 0.25 -> "0.3", 1234 -> "1,234"; null as a dash. */
export function perSecond(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  return value >= 10 || Number.isInteger(value) ? count(value) : value.toFixed(1);
}

/** The shape of what somebody wrote to publish: JSON as it is, or text. Throws a SyntaxError that says where. */
export function asJson(text) {
  JSON.parse(text);
  return text;
}
