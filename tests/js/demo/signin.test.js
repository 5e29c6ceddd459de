import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { challengeOf, randomText } from "../../../static/demo/pkce.js";
import { SignIn, SignInError } from "../../../static/demo/signin.js";
import { tokenProvider } from "../../../static/demo/token.js";

const ISSUER = "http://127.0.0.1:8000/dev-issuer";
const PAGE = "http://127.0.0.1:8000/";

/** An issuer of which each token is good once; it checks the verifier, and remembers what it was asked. */
class Issuer {
  asked = [];
  revoked = [];
  challenge = null;
  status = null;
  #made = 0;
  #refreshToken = null;

  fetch = async (url, { body } = {}) => {
    const fields = Object.fromEntries(body ?? []);
    this.asked.push([url, fields]);
    if (this.status === "away") throw new TypeError("Failed to fetch");
    if (this.status) return answer(this.status, "<html>");
    if (url === "/.well-known/oauth-authorization-server/dev-issuer") return answer(200, { issuer: ISSUER });
    if (url === "/dev-issuer/revoke") return this.revoked.push(fields.token), answer(200, {});
    assert.equal(url, "/dev-issuer/token");
    await new Promise(setImmediate);
    const isGood = fields.grant_type === "authorization_code"
      ? createHash("sha256").update(fields.code_verifier).digest("base64url") === this.challenge && fields.code === "c1"
      : fields.refresh_token === this.#refreshToken;
    if (!isGood) return answer(400, { error: "invalid_grant" });
    this.#made += 1;
    this.#refreshToken = `r${this.#made}`;
    return answer(200, { access_token: `a${this.#made}`, refresh_token: this.#refreshToken, sub: "ada", expires_in: 900 });
  };

  forget() {
    this.#refreshToken = null;
  }
}

function answer(status, body) {
  const json = async () => (typeof body === "string" ? JSON.parse(body) : body);
  return { ok: status === 200, status, json };
}

function storage() {
  const items = new Map();
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
}

function world() {
  const issuer = new Issuer();
  const kept = storage();
  const options = { path: "/dev-issuer", clientId: "demo", scope: "a:b c:d", returnsTo: PAGE };
  const make = () => new SignIn({ ...options, fetch: issuer.fetch, storage: kept, crypto: globalThis.crypto });
  return { issuer, kept, make };
}

/** As a browser goes: away with one object, back with another. */
async function signedIn({ issuer, make }) {
  const url = new URL(await make().begin(), PAGE);
  issuer.challenge = url.searchParams.get("code_challenge");
  const signIn = make();
  await signIn.finish(back(url));
  return signIn;
}

function back(url, changes = {}) {
  return new URLSearchParams({ code: "c1", state: url.searchParams.get("state"), iss: ISSUER, ...changes });
}

test("the challenge is that of RFC 7636, appendix B", async () => {
  const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
  assert.equal(await challengeOf(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
});

test("a verifier is long enough, random, and may stand in a URL", () => {
  const made = Array.from({ length: 100 }, () => randomText());
  assert.equal(new Set(made).size, 100);
  for (const text of made) assert.match(text, /^[A-Za-z0-9_-]{43}$/);
});

test("without crypto.subtle the reason is said", async () => {
  await assert.rejects(challengeOf("v", {}), /https/);
});

test("the way there: PKCE by S256, a state, the exact address, no more scope than needed, and no verifier", async () => {
  const { make, kept } = world();
  const url = new URL(await make().begin(), PAGE);
  assert.equal(url.pathname, "/dev-issuer/authorize");
  const query = Object.fromEntries(url.searchParams);
  const { verifier, state } = JSON.parse(kept.items.get("hybrid-sign-in"));
  assert.deepEqual(query, {
    response_type: "code",
    client_id: "demo",
    redirect_uri: PAGE,
    scope: "a:b c:d",
    state,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  assert.ok(!url.href.includes(verifier));
});

test("the way back: the code becomes tokens, which are kept in no storage", async () => {
  const all = world();
  const signIn = await signedIn(all);
  assert.equal(signIn.subject, "ada");
  assert.equal(await signIn.tokenAfter(null), "a1");
  assert.equal(all.kept.items.size, 0);
  const [, fields] = all.issuer.asked.at(-1);
  assert.deepEqual(Object.keys(fields).sort(), ["client_id", "code", "code_verifier", "grant_type", "redirect_uri"]);
});

for (const [what, changes, words] of [
  ["another state", { state: "x" }, /not the answer/],
  ["no state", { state: "" }, /not the answer/],
  ["another issuer", { iss: "https://evil.example" }, /another issuer/],
  ["no issuer", { iss: "" }, /another issuer/],
  ["a denial", { error: "access_denied" }, /denied/],
  ["an error", { error: "invalid_scope" }, /invalid_scope/],
  ["a code that is not good", { code: "c2" }, /invalid_grant/],
]) {
  test(`${what} signs nobody in, and what was kept is used up`, async () => {
    const { issuer, kept, make } = world();
    const url = new URL(await make().begin(), PAGE);
    issuer.challenge = url.searchParams.get("code_challenge");
    const signIn = make();
    await assert.rejects(signIn.finish(back(url, changes)), (error) => error instanceof SignInError && words.test(error.message));
    await assert.rejects(signIn.tokenAfter(null), /signed out/);
    assert.equal(kept.items.size, 0);
    await assert.rejects(signIn.finish(back(url)), /not the answer/);
  });
}

test("all sessions share the token at hand, and one refresh when it is used up", async () => {
  const all = world();
  const signIn = await signedIn(all);
  const sessions = Array.from({ length: 4 }, () => tokenProvider(signIn));
  assert.deepEqual(await Promise.all(sessions.map((get) => get())), ["a1", "a1", "a1", "a1"]);
  const before = all.issuer.asked.length;
  assert.deepEqual(await Promise.all(sessions.map((get) => get())), ["a2", "a2", "a2", "a2"]);
  assert.equal(all.issuer.asked.length, before + 1);
  assert.equal(await sessions[0](), "a3");
  assert.equal(await sessions[1](), "a3", "who comes later is given what the first has fetched");
});

test("a refusal of the refresh token ends the sign-in, once; signing in again goes on", async () => {
  const all = world();
  const signIn = await signedIn(all);
  let ended = 0;
  signIn.on("ended", () => ended++);
  const get = tokenProvider(signIn);
  await get();
  all.issuer.forget();
  await assert.rejects(get(), /invalid_grant/);
  await assert.rejects(get(), /signed out/);
  assert.equal(ended, 1);
  const url = new URL(await signIn.begin(), PAGE);
  assert.equal(url.searchParams.get("login_hint"), "ada");
  all.issuer.challenge = url.searchParams.get("code_challenge");
  await signIn.finish(back(url));
  assert.equal(await get(), "a2");
});

test("an issuer that is away or broken ends nothing", async () => {
  const all = world();
  const signIn = await signedIn(all);
  signIn.on("ended", () => assert.fail("it has not ended"));
  const get = tokenProvider(signIn);
  await get();
  for (const status of ["away", 503, 404]) {
    all.issuer.status = status;
    await assert.rejects(get(), (error) => error instanceof SignInError && !error.isOver);
  }
  all.issuer.status = null;
  assert.equal(await get(), "a2");
});

test("signing out revokes and forgets, also when nobody answers", async () => {
  for (const status of [null, "away"]) {
    const all = world();
    const signIn = await signedIn(all);
    all.issuer.status = status;
    await signIn.signOut();
    if (!status) assert.deepEqual(all.issuer.revoked, ["r1"]);
    assert.equal(signIn.subject, null);
    await assert.rejects(signIn.tokenAfter(null), /signed out/);
  }
});

test("a server without an issuer is told from one that does not answer", async () => {
  const { issuer, make } = world();
  issuer.status = 404;
  await assert.rejects(make().begin(), /no development issuer/);
  issuer.status = "away";
  await assert.rejects(make().begin(), /cannot be reached/);
});

test("no token stands in any URL", async () => {
  const all = world();
  const signIn = await signedIn(all);
  await tokenProvider(signIn)();
  await signIn.tokenAfter("a1");
  await signIn.signOut();
  for (const [url] of all.issuer.asked) assert.doesNotMatch(url, /[?#]|[ar][0-9]$/);
});
