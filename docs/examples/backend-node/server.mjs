// A backend for hybrid in plain Node (20 or later), without a dependency: it decides who comes in, who reads and writes
// which channel and what calls give; it hears what happens, and publishes. See README.md beside it.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { PORT = "9000", HYBRID_URL = "http://127.0.0.1:8000", HYBRID_HOOKS_SECRET = "" } = process.env;
const { TOKEN_URL = `${HYBRID_URL}/dev-issuer/token`, CLIENT_ID = "cli", CLIENT_SECRET = "" } = process.env;
const SECRET = Buffer.from(HYBRID_HOOKS_SECRET.replace(/^whsec_/, ""), "base64");
const BODY_MAX = 1_048_576;
const TOLERANCE_S = 300;
if (SECRET.length < 24) throw new Error("HYBRID_HOOKS_SECRET: whsec_ and what `openssl rand -base64 32` prints");

// -- is it hybrid, and is it now? Standard Webhooks: HMAC-SHA256 over id.timestamp.body

const isSigned = (headers, body) => {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signatures = "" } = headers;
  if (!id || !/^\d{1,12}$/.test(at) || Math.abs(Date.now() / 1000 - at) > TOLERANCE_S) return false;
  const expected = createHmac("sha256", SECRET).update(`${id}.${at}.`).update(body).digest();
  return signatures.split(" ").some((item) => {
    const shown = Buffer.from(item.replace(/^v1,/, ""), "base64");
    return item.startsWith("v1,") && shown.length === expected.length && timingSafeEqual(shown, expected);
  });
};

// -- asked: the answer decides

const BANNED = new Set(["mallory"]);
const STAFF = new Set(["ada"]);
const mayUse = (subject, channel) => channel !== "room:staff" || STAFF.has(subject);

const calls = {
  add: async ({ data }) => data.reduce((sum, number) => sum + number, 0),
  shout: async ({ principal, data: { room, text } }) => {
    if (!mayUse(principal.subject, room)) throw new Error("not your room");
    return publish(room, { from: principal.subject, text: text.toUpperCase() });
  },
};

const answers = {
  connect: ({ principal }) =>
    BANNED.has(principal.subject) ? { allow: false, reason: "banned", cache_s: 60 } : { allow: true },
  subscribe: ({ principal, channel }) => ({ allow: mayUse(principal.subject, channel), reason: "staff only", cache_s: 60 }),
  publish: ({ principal, channel }) => ({ allow: mayUse(principal.subject, channel), reason: "staff only", cache_s: 60 }),
  call: async (question) => {
    if (!Object.hasOwn(calls, question.name)) return { error: "no such call" };
    try {
      return { result: await calls[question.name](question) };
    } catch (error) {
      return { error: error.message };
    }
  },
};

// -- told: at least once, so what was heard before is dropped by its id

const HEARD_MAX = 10_000;
const heard = new Set();

const hear = ({ events, dropped }) => {
  if (dropped) console.log(`missed ${dropped} events`);
  for (const event of events) {
    if (heard.has(event.id)) continue;
    heard.add(event.id);
    if (heard.size > HEARD_MAX) heard.delete(heard.values().next().value);
    console.log(event.type, event.channel ?? event.principal.subject, event.reason ?? "");
  }
};

// -- publishing: through hybrid's HTTP API, with a token of our own that is asked for again before it ends

let token;

const accessToken = async () => {
  if (token && Date.now() < token.untilMs) return token.text;
  const form = { grant_type: "client_credentials", client_id: CLIENT_ID, scope: "hybrid:publish:room:*" };
  if (CLIENT_SECRET) form.client_secret = CLIENT_SECRET;
  const answer = await fetch(TOKEN_URL, { method: "POST", body: new URLSearchParams(form) });
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  const { access_token: text, expires_in: lifeS } = await answer.json();
  token = { text, untilMs: Date.now() + (lifeS - 30) * 1000 };
  return text;
};

const publish = async (channel, data) => {
  const answer = await fetch(`${HYBRID_URL}/v1/channels/${encodeURIComponent(channel)}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${await accessToken()}`, "Content-Type": "application/json" },
    body: JSON.stringify(data),
  });
  if (!answer.ok) throw new Error(`not published: ${answer.status}`);
  return answer.json();
};

// -- HTTP

const read = async (request) => {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    parts.push(part);
    if ((size += part.length) > BODY_MAX) throw new Error("too large");
  }
  return Buffer.concat(parts);
};

const respond = (response, status, value) => {
  response.writeHead(status, value && { "Content-Type": "application/json" });
  response.end(value && JSON.stringify(value));
};

const server = createServer(async (request, response) => {
  try {
    const body = await read(request);
    if (request.method !== "POST" || !isSigned(request.headers, body)) return respond(response, 401);
    const message = JSON.parse(body);
    if (message.events) {
      hear(message);
      return respond(response, 204);
    }
    respond(response, 200, await answers[message.ask](message));
  } catch (error) {
    console.error(error.message);
    respond(response, 500);
  }
});

server.keepAliveTimeout = 60_000; // hybrid keeps its connections, and asks on them again
server.listen(Number(PORT), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
