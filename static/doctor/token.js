/**
 * With which token the page examines: one of the server's development issuer, where there is one, or one that was pasted.
 * It is in this object and nowhere else: in no URL, and in nothing that outlives the page.
 */

const METADATA = "/.well-known/oauth-protected-resource";
const DEVELOPMENT_ISSUER = "/dev-issuer";
const FORM = { grant_type: "client_credentials", client_id: "cli", scope: "hybrid:subscribe:doctor" };

export class TokenSource {
  /** Where its tokens come from, as URLs; known after `discover`. */
  issuers = [];
  #pasted = "";

  /** Whose tokens does the server take (RFC 9728)? Never rejects. */
  async discover() {
    try {
      const response = await fetch(METADATA, { cache: "no-store" });
      const { authorization_servers: issuers } = await response.json();
      this.issuers = Array.isArray(issuers) ? issuers.filter((url) => URL.canParse(url)) : [];
    } catch {
      this.issuers = []; // what the examination finds says why
    }
  }

  /** True where anybody gets a token: the issuer is the server itself. */
  get isFree() {
    return this.issuers.some((url) => new URL(url).pathname === DEVELOPMENT_ISSUER);
  }

  /** Issuers that a person has to get a token from. */
  get foreign() {
    return this.issuers.filter((url) => new URL(url).pathname !== DEVELOPMENT_ISSUER);
  }

  /** @param {string} text what was pasted; "" takes it back */
  paste(text) {
    this.#pasted = text.trim().replace(/^Bearer\s+/i, "");
  }

  get isPasted() {
    return this.#pasted !== "";
  }

  /** A token, "" without one. Never rejects. */
  async get() {
    if (this.#pasted || !this.isFree) return this.#pasted;
    try {
      const body = new URLSearchParams(FORM);
      const response = await fetch(`${DEVELOPMENT_ISSUER}/token`, { method: "POST", body, cache: "no-store" });
      const { access_token: token } = await response.json();
      return typeof token === "string" ? token : "";
    } catch {
      return "";
    }
  }
}
