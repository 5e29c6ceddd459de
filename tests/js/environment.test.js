/** What is taken from the platform: here, what wakes a client. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { platform } from "../../static/hybrid/environment.js";

const names = ["document", "addEventListener", "removeEventListener"];
let page, former;

beforeEach(() => {
  former = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
  page = new EventTarget();
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
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

test("a hidden page is woken by the network only", () => {
  let count = 0;
  const off = platform().onWake(() => count++);
  document.visibilityState = "hidden";
  for (const happen of Object.values(ways)) happen();
  assert.equal(count, 1);
  off();
});

test("where there is no page and no such event, nothing is asked for", () => {
  for (const name of names) delete globalThis[name];
  platform().onWake(() => assert.fail())();
});
