import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { tokenProvider } from "../../../static/demo/token.js";

const realFetch = globalThis.fetch;
afterEach(() => {
  globalThis.fetch = realFetch;
});

test("asks for the client credentials grant, each time anew, and gives the bare token", async () => {
  const asked = [];
  globalThis.fetch = async (url, { method, body, cache }) => {
    asked.push([url, method, body.toString(), cache]);
    return { ok: true, json: async () => ({ access_token: `t${asked.length}`, expires_in: 900 }) };
  };
  const getToken = tokenProvider("/issuer/token", "demo", "a:b c:d");
  assert.deepEqual([await getToken(), await getToken()], ["t1", "t2"]);
  const form = "grant_type=client_credentials&client_id=demo&scope=a%3Ab+c%3Ad";
  assert.deepEqual(asked[0], ["/issuer/token", "POST", form, "no-store"]);
});

test("a refusal rejects with its status", async () => {
  globalThis.fetch = async () => ({ ok: false, status: 400 });
  await assert.rejects(tokenProvider("/issuer/token", "demo", "")(), /400/);
});
