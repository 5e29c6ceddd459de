/**
 * Signs in at the development issuer: authorization code with PKCE, then refresh tokens, for as long as the page lives.
 *
 * Tokens are in this object and nowhere else: a page that is loaded again signs in again. What has to outlast the way to
 * the issuer and back (the verifier and the state, which are worth nothing without the code) waits in the tab's
 * `sessionStorage` and is taken out on return. No token ever stands in a URL (RFC 9700, section 4.3.2).
 */

import { Emitter } from "./emitter.js";
import { challengeOf, randomText } from "./pkce.js";

const KEPT = "hybrid-sign-in";

/** Why there is no token now, as a sentence. `isOver`: only a person can change that. */
export class SignInError extends Error {
  name = "SignInError";

  constructor(message, { isOver = true } = {}) {
    super(message);
    this.isOver = isOver;
  }
}

/** Events: "signed-in", and "ended" when the issuer takes the refresh token no more. */
export class SignIn extends Emitter {
  /** Who signed in, to be shown; null while nobody is. */
  subject = null;
  #path;
  #clientId;
  #scope;
  #returnsTo;
  #fetch;
  #storage;
  #crypto;
  #metadata = null;
  #accessToken = null;
  #refreshToken = null;
  #refreshing = null;

  /** `scope`: no more than the page needs (RFC 9700, section 2.3), whatever the client could have. */
  constructor({
    path,
    clientId,
    scope,
    returnsTo,
    fetch = globalThis.fetch.bind(globalThis),
    storage = globalThis.sessionStorage,
    crypto = globalThis.crypto,
  }) {
    super();
    this.#path = path;
    this.#clientId = clientId;
    this.#scope = scope;
    this.#returnsTo = returnsTo;
    this.#fetch = fetch;
    this.#storage = storage;
    this.#crypto = crypto;
  }

  /** Where to send the person. What is needed on return is kept. Rejects with a SignInError. */
  async begin() {
    await this.#discover();
    const verifier = randomText(this.#crypto);
    const state = randomText(this.#crypto);
    const query = new URLSearchParams({
      response_type: "code",
      client_id: this.#clientId,
      redirect_uri: this.#returnsTo,
      scope: this.#scope,
      state,
      code_challenge: await challengeOf(verifier, this.#crypto),
      code_challenge_method: "S256",
    });
    if (this.subject) query.set("login_hint", this.subject);
    this.#storage.setItem(KEPT, JSON.stringify({ verifier, state }));
    return `${this.#path}/authorize?${query}`;
  }

  /** @param {URLSearchParams} query with which the issuer sent the person back. Rejects with a SignInError. */
  async finish(query) {
    const { verifier, state } = JSON.parse(this.#storage.getItem(KEPT) ?? "{}");
    this.#storage.removeItem(KEPT);
    if (!state || query.get("state") !== state) throw new SignInError("This is not the answer to a sign-in of this tab.");
    const { issuer } = await this.#discover();
    if (query.get("iss") !== issuer) throw new SignInError("The answer came from another issuer."); // RFC 9207
    if (query.has("error")) {
      const denied = query.get("error") === "access_denied";
      throw new SignInError(denied ? "You denied the sign-in." : `The issuer refused: ${query.get("error")}.`);
    }
    await this.#ask({
      grant_type: "authorization_code",
      code: query.get("code") ?? "",
      redirect_uri: this.#returnsTo,
      code_verifier: verifier,
    });
    this.emit("signed-in");
  }

  /**
   * An access token that is not `last`, which is used up: the one at hand, or a new one. All who ask share one refresh,
   * since a refresh token is good for one use. Rejects with a SignInError.
   */
  async tokenAfter(last) {
    if (this.#accessToken && this.#accessToken !== last) return this.#accessToken;
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = null;
    });
    await this.#refreshing;
    return this.#accessToken;
  }

  /** Revokes what this page was given and forgets it, also when the issuer cannot be reached. */
  async signOut() {
    const token = this.#refreshToken;
    this.#forget();
    this.subject = null;
    if (!token) return;
    try {
      await this.#post("revoke", { token, token_type_hint: "refresh_token" });
    } catch {
      // Nobody has the token any more.
    }
  }

  async #refresh() {
    const token = this.#refreshToken;
    if (!token) throw new SignInError("You are signed out.");
    try {
      await this.#ask({ grant_type: "refresh_token", refresh_token: token });
    } catch (error) {
      if (error.isOver && token === this.#refreshToken) {
        this.#forget();
        this.emit("ended");
      }
      throw error;
    }
  }

  async #ask(fields) {
    const response = await this.#post("token", fields);
    const answer = await response.json().catch(() => ({}));
    if (response.ok && answer.access_token) {
      this.#accessToken = answer.access_token;
      this.#refreshToken = answer.refresh_token ?? null;
      this.subject = answer.sub ?? null;
      return;
    }
    if (response.status === 400) throw new SignInError(`The issuer refused: ${answer.error ?? "no reason given"}.`);
    throw new SignInError(`The issuer answered ${response.status}.`, { isOver: false });
  }

  async #post(endpoint, fields) {
    try {
      return await this.#fetch(`${this.#path}/${endpoint}`, {
        method: "POST",
        body: new URLSearchParams({ ...fields, client_id: this.#clientId }),
        cache: "no-store",
      });
    } catch {
      throw new SignInError("The issuer cannot be reached.", { isOver: false });
    }
  }

  /** Is there an issuer at all, and what is its name? Its endpoints are asked for under the page's own origin. */
  async #discover() {
    if (this.#metadata) return this.#metadata;
    const url = `/.well-known/oauth-authorization-server${this.#path}`;
    const response = await this.#fetch(url, { cache: "no-store" }).catch(() => null);
    if (!response) throw new SignInError("The server cannot be reached.", { isOver: false });
    if (!response.ok) throw new SignInError("This server has no development issuer, so this page can have no token.");
    this.#metadata = await response.json();
    return this.#metadata;
  }

  #forget() {
    this.#accessToken = this.#refreshToken = null;
  }
}
