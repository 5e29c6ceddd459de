/**
 * Whose token the page shows: of a sign-in at the development issuer, or one that was pasted. It is in memory and nowhere
 * else, so a page that is loaded again asks again: in no URL, no storage, no log.
 */

import { SignInError } from "../demo/signin.js";

/** All that the page can do; the issuer gives it, or says no. */
export const SCOPE = [
  ...["hybrid:admin", "hybrid:nodes", "hybrid:channels:*", "hybrid:sessions"],
  ...["hybrid:publish:*", "hybrid:purge:*", "hybrid:disconnect", "hybrid:revoke", "hybrid:drain"],
].join(" ");

/** A token that a person got elsewhere. It cannot be renewed, only replaced. */
export class PastedToken {
  #token;

  constructor(text) {
    this.#token = text.trim().replace(/^Bearer\s+/i, "");
    if (!this.#token) throw new SignInError("Paste a token first.");
    // What a header cannot carry is no token (RFC 6750, section 2.1), and most often a part of a terminal's line.
    if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(this.#token)) throw new SignInError("That is no access token: it has other characters.");
  }

  /** As `SignIn.tokenAfter`: the one that there is, unless that is used up. */
  async tokenAfter(last) {
    if (last === this.#token) throw new SignInError("The server does not accept this token any more.");
    return this.#token;
  }

  /** Who is said to be signed in: what a JWT says of itself, to be shown and not to be trusted. */
  get subject() {
    try {
      const [, claims] = this.#token.split(".");
      const bytes = Uint8Array.from(atob(claims.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
      const { sub } = JSON.parse(new TextDecoder().decode(bytes));
      return typeof sub === "string" ? sub : "";
    } catch {
      return "";
    }
  }

  /** The server it belongs to is not told: it is whoever pasted it who may need it elsewhere. */
  async signOut() {
    this.#token = null;
  }
}
