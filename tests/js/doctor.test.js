import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { adviceFor, report, stateOf } from "../../static/doctor/report.js";
import { judge } from "../../static/doctor/rhythm.js";
import { describe, scaleOf, spanOf } from "../../static/doctor/timeline.js";
import { conclude } from "../../static/doctor/verdict.js";
import { split } from "../../static/doctor/verdictview.js";
import { duration, passed, visible } from "../../static/doctor/words.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

for (const { name, beats, gap_s, held_s, kind, count, lag_s } of vectors("rhythms")) {
  test(`rhythm: ${name}`, () => {
    const rhythm = judge(
      beats.map(([sent, came]) => ({ sent, came })),
      { gap: gap_s, held: held_s },
    );
    assert.deepEqual([rhythm.kind, rhythm.count], [kind, count]);
    assert.ok(Math.abs(rhythm.lag - lag_s) < 1e-9, `${rhythm.lag}`);
  });
}

for (const { name, findings, will_use, sentence } of vectors("verdicts")) {
  test(`verdict: ${name}`, () => {
    assert.deepEqual(conclude(findings), { willUse: will_use, sentence });
  });
}

test("a sentence is split into a headline and what follows it", () => {
  const all = "hybrid will use WebSocket here, the best of the three.";
  assert.deepEqual(split(all), ["hybrid will use WebSocket here", "The best of the three."]);
  const why = "hybrid will use SSE here: WebSocket fails, nothing comes here at all.";
  assert.deepEqual(split(why), ["hybrid will use SSE here", "WebSocket fails, nothing comes here at all."]);
  assert.deepEqual(split("hybrid cannot get through here."), ["hybrid cannot get through here", ""]);
  assert.deepEqual(split("No transport has been tried yet."), ["No transport has been tried yet.", ""]);
});

test("durations, and what strangers write", () => {
  assert.deepEqual([0.4, 12.6, 999, 1000, 61_260].map(duration), ["0 ms", "13 ms", "999 ms", "1.0 s", "61.3 s"]);
  assert.equal(visible("a\u001b]0;x\u202e\n"), "a?]0;x??");
  assert.equal(visible("x".repeat(1000)).length, 120);
  const headers = new Headers({ via: "1.1 office (squid/5.7)", "content-encoding": "gzip", server: "x" });
  assert.deepEqual(passed(headers), ["Via: 1.1 office (squid/5.7)", "recompressed on the way (gzip)"]);
  assert.deepEqual(passed(new Headers({ "content-encoding": "identity" })), []);
});

const finding = (name, works, facts, more) => ({ name, works, facts, flaws: [], ...more });

test("how a transport does, in a word", () => {
  assert.equal(stateOf(finding("sse", true, ["x"])), "works");
  assert.equal(stateOf(finding("sse", true, ["x"], { flaws: ["behind"] })), "badly");
  assert.equal(
    stateOf(finding("sse", true, ["x"]), finding("sse-idle", true, ["y"], { flaws: ["idle_cut"] })),
    "badly",
  );
  assert.equal(stateOf(finding("sse", false, ["x"], { flaws: ["held"] })), "fails");
  assert.equal(stateOf(finding("sse", true, ["x"], { isOnlyHeard: true })), "heard");
});

test("the report says what was seen and what would help, each once", () => {
  const findings = [
    finding("server", true, ["answered in 3 ms", "Via: 1.1 office"]),
    finding("longpoll", true, ["answered in 5 ms"]),
    finding("websocket", false, ["frames are swallowed"], { flaws: ["mute"] }),
    finding("sse", true, ["first event after 9 ms", "one behind"], { flaws: ["behind"] }),
    finding("sse-idle", true, ["idle cut after 4.0 s"], { flaws: ["idle_cut"] }),
  ];
  const given = { server: "https://live.example", browser: "A browser", at: "2026-11-27 17:00 UTC" };
  const text = report({ findings, sentence: "hybrid will use long polling here.", ...given });
  assert.equal(
    text,
    `What the network does between this browser and https://live.example
2026-11-27 17:00 UTC, A browser

hybrid will use long polling here.

Server: answered in 3 ms; Via: 1.1 office.
WebSocket: fails; frames are swallowed.
SSE: works badly; first event after 9 ms; one behind; in silence: idle cut after 4.0 s.
Long polling: works; answered in 5 ms.

What would help:
- Pass WebSocket frames and answers on as they come; what is opened must carry data.
- Do not hold events back until the next one comes: scanners of text/event-stream do.
- Keep connections open that are silent for a minute.
`,
  );
  assert.equal(adviceFor([...findings, ...findings]).length, 3);
  assert.doesNotMatch(report({ findings: findings.slice(0, 2), sentence: "x", ...given }), /help/);
});

test("the time line shows all that was asked for, and says it in words", () => {
  const beats = [
    { sent: 0, came: 20 },
    { sent: 1000, came: 3100 },
    { sent: 2000, came: null },
  ];
  assert.equal(spanOf([]), 3000);
  assert.equal(spanOf(beats), 4000);
  assert.equal(describe(beats), "2 of 3 came, after 20 ms to 2.1 s");
  assert.equal(describe(beats.slice(2)), "0 of 1 came");
  assert.equal(describe([]), "Nothing was asked for");
  const x = scaleOf(4000, 416);
  assert.deepEqual([0, 2000, 4000, 9000].map(x), [8, 208, 408, 408]);
});
