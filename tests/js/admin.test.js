import assert from "node:assert/strict";
import { test } from "node:test";

import { Api, ApiError } from "../../static/admin/api.js";
import { PastedToken } from "../../static/admin/credentials.js";
import { Feed } from "../../static/admin/feed.js";
import { Pager } from "../../static/admin/pager.js";
import { byPrincipal } from "../../static/admin/principals.js";
import { Rates } from "../../static/admin/rates.js";
import { disconnected, failure, perSecond, published, purged, reach, revoked, span } from "../../static/admin/words.js";
import { SignInError } from "../../static/demo/signin.js";

const stats = (node, at_s, given = {}) => ({
  node,
  at_s,
  connections: { websocket: 1, sse: 0, longpoll: 0 },
  sessions: { websocket: 1, sse: 0, longpoll: 0, none: 0 },
  slow: 0,
  behind: 0,
  buffered_bytes: 0,
  subscriptions: 2,
  published: 0,
  deliveries: 0,
  flushed_bytes: 0,
  refused: 0,
  cpu_s: 0,
  lag_s: 0.001,
  ...given,
});

// -- rates

test("a rate is by the node's own clock, however late its answers come", () => {
  const rates = new Rates({ span_ms: 60_000 });
  rates.add({ nodes: [stats("a", 100, { deliveries: 50 })] }, 0);
  assert.equal(rates.now().delivered, null, "one answer says nothing of a rate");
  rates.add({ nodes: [stats("a", 104, { deliveries: 90, cpu_s: 2 })] }, 9_000);
  assert.equal(rates.now().delivered, 10);
  assert.equal(rates.now().cpu, 0.5);
  rates.add({ nodes: [stats("a", 104, { deliveries: 90, cpu_s: 2 })] }, 9_100);
  assert.equal(rates.now().delivered, 10, "the same look again is no rate of nought");
  assert.deepEqual(
    rates.points("delivered").map(({ value }) => value),
    [10, 10],
  );
});

test("nodes add up, but for what does not", () => {
  const rates = new Rates({ span_ms: 60_000 });
  rates.add({ nodes: [stats("a", 0), stats("b", 50)] }, 0);
  rates.add({ nodes: [stats("a", 1, { published: 4, cpu_s: 0.2, lag_s: 0.02 }), stats("b", 52, { published: 2, cpu_s: 1 })] }, 2_000);
  const all = rates.now();
  assert.deepEqual([all.nodes, all.connections, all.published, all.cpu, all.lag_ms], [2, 2, 5, 0.5, 20]);
  assert.equal(rates.now("b").published, 1);
  assert.equal(rates.now("c"), null);
});

test("a node that was away has no rate over the time of its absence, nor one that was replaced", () => {
  const rates = new Rates({ span_ms: 60_000 });
  rates.add({ nodes: [stats("a", 0), stats("b", 0)] }, 0);
  rates.add({ nodes: [stats("a", 2)] }, 2_000);
  rates.add({ nodes: [stats("a", 4), stats("b", 4, { published: 1_000 })] }, 4_000);
  assert.equal(rates.now("b").published, null);
  rates.add({ nodes: [stats("a", 1, { published: 3 })] }, 6_000);
  assert.equal(rates.now("a").published, null, "its clock went back: it is another one");
});

test("what is older than the span is forgotten", () => {
  const rates = new Rates({ span_ms: 10_000 });
  for (let at_ms = 0; at_ms <= 60_000; at_ms += 2_000) rates.add({ nodes: [stats("a", at_ms / 1000)] }, at_ms);
  assert.equal(rates.samples.length, 6);
});

test("a moment that is pointed at is that of the sample next to it", () => {
  const rates = new Rates({ span_ms: 60_000 });
  assert.equal(rates.at(0), null);
  for (const at_ms of [0, 2_000, 4_000]) rates.add({ nodes: [stats("a", at_ms / 1000, { slow: at_ms })] }, at_ms);
  assert.deepEqual(
    [-5_000, 900, 1_100, 3_000, 99_000].map((at_ms) => rates.at(at_ms).figures.slow),
    [0, 0, 2_000, 4_000, 4_000],
  );
  assert.equal(rates.at(2_000, "b").figures, null);
});

// -- the feed

class Timers {
  at_ms = 0;
  due = null;
  now = () => this.at_ms;
  set = (act, delay_ms) => {
    this.due = { act, at_ms: this.at_ms + delay_ms };
    return this.due;
  };
  clear = () => {
    this.due = null;
  };

  /** Lets the next round come, and end; how long it was waited for. */
  async next() {
    const { act, at_ms } = this.due;
    const waited = at_ms - this.at_ms;
    this.at_ms = at_ms;
    this.due = null;
    await act();
    return waited;
  }
}

function feedOf(answers) {
  const timers = new Timers();
  const seen = [];
  const feed = new Feed({
    ask: async () => {
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer instanceof Error) throw answer;
      return answer;
    },
    take: (answer) => seen.push(answer),
    changed: () => seen.push(feed.state),
    timers,
  });
  return { feed, timers, seen };
}

const offline = () => new ApiError("The server does not answer.", { kind: "offline" });

test("the feed tries again by itself, later each time, and at once when the network is back", async () => {
  const { feed, timers, seen } = feedOf([1, offline(), offline(), offline(), offline(), offline(), 2]);
  feed.start();
  const waits = [];
  for (let round = 0; round < 6; round += 1) waits.push(await timers.next());
  assert.deepEqual(waits, [0, 2_000, 1_000, 2_000, 4_000, 8_000]);
  assert.equal(feed.again_ms - timers.now(), 8_000);
  feed.wake();
  assert.equal(await timers.next(), 0);
  assert.deepEqual(seen, ["live", 1, "offline", "offline", "offline", "offline", "offline", "live", 2]);
  assert.equal(await timers.next(), 2_000);
});

test("who may not is not asked for again and again, and a new sign-in goes on", async () => {
  const answers = [new ApiError("", { kind: "forbidden", scope: "hybrid:admin" }), 3];
  const { feed, timers, seen } = feedOf(answers);
  feed.start();
  await timers.next();
  assert.equal(timers.due, null);
  feed.wake();
  assert.equal(timers.due, null);
  feed.start();
  await timers.next();
  assert.deepEqual(seen, ["refused", "live", 3]);
});

test("while nobody looks nothing is asked", async () => {
  const { feed, timers } = feedOf([1]);
  feed.hidden(true);
  feed.start();
  assert.equal(timers.due, null);
  feed.hidden(false);
  assert.equal(await timers.next(), 0);
  feed.hidden(true);
  assert.equal(timers.due, null);
});

// -- the api

function apiOf(responses, tokens = ["one", "two"]) {
  const asked = [];
  const fetch = async (url, { headers, method, body }) => {
    asked.push({ url: url.href, method, body, headers });
    const response = responses.shift();
    if (response instanceof Error) throw response;
    return response;
  };
  const credentials = {
    tokenAfter: async (last) => {
      const token = tokens.find((one) => one !== last);
      if (!token || (last && tokens.indexOf(last) === tokens.length - 1)) throw new SignInError("It is over.");
      return token;
    },
  };
  return { api: new Api({ base: new URL("https://live.example/x/"), credentials, fetch }), asked };
}

const json = (body, status = 200) => new Response(JSON.stringify(body), { status });

test("the token is in a header, never in the URL, and a new one is asked for once", async () => {
  const { api, asked } = apiOf([json({}, 401), json({ ok: true })]);
  assert.deepEqual(await api.get("v1/info/channels", { prefix: "chat:", after: "", limit: 5 }), { ok: true });
  assert.deepEqual(
    asked.map(({ url, headers }) => [url, headers.Authorization]),
    [
      ["https://live.example/x/v1/info/channels?prefix=chat%3A&limit=5", "Bearer one"],
      ["https://live.example/x/v1/info/channels?prefix=chat%3A&limit=5", "Bearer two"],
    ],
  );
});

test("a token that stays refused signs out", async () => {
  const { api } = apiOf([json({}, 401), json({ detail: "The token has expired." }, 401)]);
  await assert.rejects(api.get("v1/info/stats"), { kind: "signed-out", message: "The token has expired." });
  const only = apiOf([json({}, 401)], ["one"]);
  await assert.rejects(only.api.get("v1/info/stats"), { kind: "signed-out", message: "It is over." });
});

test("what is refused says which scope is missing; what cannot be reached, and what is not ours, is offline", async () => {
  const { api } = apiOf([
    json({ name: "forbidden", detail: "For this, a token needs the scope hybrid:purge:CHANNEL." }, 403),
    new TypeError("network"),
    new Response("<h1>Bad gateway</h1>", { status: 502 }),
    json({ name: "bad_request", detail: "A reason is one line." }, 400),
  ]);
  await assert.rejects(api.post("v1/purge", {}), { kind: "forbidden", scope: "hybrid:purge:CHANNEL" });
  await assert.rejects(api.get("v1/info/nodes"), { kind: "offline" });
  await assert.rejects(api.get("v1/info/nodes"), { kind: "offline", message: "Something in between answered 502." });
  await assert.rejects(api.post("v1/disconnect", {}), { kind: "bad_request", message: "A reason is one line." });
});

test("a key goes along with what must not be done twice", async () => {
  const { api, asked } = apiOf([json({ sessions: 1 })]);
  await api.post("v1/disconnect", { subject: "alice" }, { key: "k" });
  assert.equal(asked[0].headers["Idempotency-Key"], "k");
  assert.equal(asked[0].body, '{"subject":"alice"}');
});

// -- a pasted token

test("a pasted token may come with what a terminal puts around it, is good once, and says whose it is", async () => {
  const claims = Buffer.from(JSON.stringify({ sub: "Zoë" })).toString("base64url");
  const pasted = new PastedToken(`  Bearer x.${claims}.y\n`);
  assert.equal(await pasted.tokenAfter(null), `x.${claims}.y`);
  assert.equal(pasted.subject, "Zoë");
  await assert.rejects(pasted.tokenAfter(`x.${claims}.y`), SignInError);
  assert.equal(new PastedToken("opaque").subject, "");
  for (const wrong of ["", "  ", "two words", "a\nb", "ünsinn"]) assert.throws(() => new PastedToken(wrong), SignInError);
});

// -- lists

test("pages are turned forwards by what the server says, and back by what was seen", () => {
  const pager = new Pager();
  assert.deepEqual([pager.after, pager.hasPrevious, pager.hasNext], ["", false, false]);
  pager.answered("m");
  pager.forward();
  pager.answered("x");
  assert.deepEqual([pager.after, pager.number, pager.hasPrevious, pager.hasNext], ["m", 2, true, true]);
  pager.forward();
  pager.forward();
  assert.deepEqual([pager.after, pager.number], ["x", 3], "there is no page behind one that is not read yet");
  pager.back();
  pager.back();
  pager.back();
  assert.deepEqual([pager.after, pager.number], ["", 1]);
});

test("sessions are counted by whom they speak for, which is more than a subject", () => {
  const of = (subject, issuer, transport, channel_count = 1) => ({ subject, issuer, client: "web", transport, channel_count });
  const counted = byPrincipal([of("ann", "i", "sse"), of("bob", "i", "websocket"), of("bob", "i", undefined, 3), of("bob", "j", "longpoll"), { session: "x" }]);
  assert.deepEqual(
    counted.map(({ subject, issuer, sessions, websocket, longpoll, away, subscriptions }) => [subject, issuer, sessions, websocket, longpoll, away, subscriptions]),
    [
      ["bob", "i", 2, 1, 0, 1, 4],
      ["", "", 1, 0, 0, 1, 0],
      ["ann", "i", 1, 0, 0, 0, 1],
      ["bob", "j", 1, 0, 1, 0, 1],
    ],
  );
});

// -- words

test("what came of it, in words", () => {
  assert.equal(disconnected({ sessions: 2, streams: 1, nodes: 3 }), "2 sessions and 1 plain stream or poll ended, on 3 nodes.");
  assert.equal(disconnected({ sessions: 0, streams: 0, nodes: 1 }), "Nothing was open.");
  assert.match(disconnected({ sessions: 1, streams: 0, nodes: 1, unanswered: ["n2"] }), /on 1 node\. n2 did not answer in time/);
  assert.match(disconnected({ sessions: 1, streams: 0, nodes: 1, repeated: true }), /^Done before: /);
  assert.match(revoked({ ended_here: 1 }), /1 connection of it ended at the node that answered/);
  assert.match(purged({ channel: "a", position: { offset: 0 } }), /nothing to empty/);
  assert.match(purged({ channel: "a", position: { offset: 1 } }), /is empty/);
  assert.equal(published("a:b", { offset: 1234 }), "Published: it is in the log of a:b, at place 1,234.");
  assert.equal(reach(2), ", on 2 nodes.");
  assert.match(failure(offline()), /nothing is done twice/);
  assert.match(failure(new ApiError("", { kind: "forbidden", scope: "hybrid:drain" })), /lacks the scope hybrid:drain/);
});

test("spans and rates keep to two units and no false digits", () => {
  assert.deepEqual([0, 59.9, 61, 3_600, 90_061, -5].map(span), ["0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h", "0 s"]);
  assert.deepEqual([null, 0, 0.25, 9.94, 12.4, 12_345.6].map(perSecond), ["–", "0", "0.3", "9.9", "12", "12,346"]);
});
