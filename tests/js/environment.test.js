/** What is taken from the platform: here, what wakes a client. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { platform } from "../../static/hybrid/environment.js";

const names = ["document", "addEventListener", "removeEventListener"];
let page, former;

beforeEach(() => {
  former = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
  page = new EventTarget();
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
});

afterEach(() => {
  names.forEach((name, index) =>
    former[index] ? Object.defineProperty(globalThis, name, former[index]) : delete globalThis[name],
  );
});

const ways = {
  online: () => page.dispatchEvent(new Event("online")),
  pageshow: () => page.dispatchEvent(new Event("pageshow")),
  visibilitychange: () => document.dispatchEvent(new Event("visibilitychange")),
  resume: () => document.dispatchEvent(new Event("resume")),
};

for (const [name, happen] of Object.entries(ways)) {
  test(`${name} wakes, until it is not wanted any more`, () => {
    let count = 0;
    const off = platform().onWake(() => count++);
    happen();
    happen();
    assert.equal(count, 2);
    off();
    happen();
    assert.equal(count, 2);
  });
}

test("a hidden page is woken by the network and by being thawed, not by its being hidden", () => {
  let count = 0;
  const off = platform().onWake(() => count++);
  document.hidden = true;
  ways.visibilitychange();
  assert.equal(count, 0);
  for (const name of ["online", "pageshow", "resume"]) ways[name]();
  assert.equal(count, 3);
  off();
});

test("frozen, and put into the back/forward cache, it goes to sleep; left for good, nobody cares", () => {
  let count = 0;
  const off = platform().onWake(
    () => assert.fail(),
    () => count++,
  );
  document.dispatchEvent(new Event("freeze"));
  page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }));
  assert.equal(count, 2);
  page.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: false }));
  assert.equal(count, 2);
  off();
  document.dispatchEvent(new Event("freeze"));
  assert.equal(count, 2);
});

test("where there is no page and no such event, nothing is asked for", () => {
  for (const name of names) delete globalThis[name];
  platform().onWake(() => assert.fail())();
});
