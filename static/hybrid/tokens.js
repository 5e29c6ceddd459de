/** The token at hand. The provider is asked only when there is none, or it is over, or the server refused it. */
export class Tokens {
  #token;
  #expiresAtMs = Infinity;
  #asking;

  /** `provider`: async () => string, or nothing for an anonymous client. */
  constructor(provider, now) {
    Object.assign(this, { provider, now });
  }

  /** The token at hand, "" for an anonymous client. */
  get value() {
    return this.#token ?? "";
  }

  /** A usable token; legs that race share one question to the provider. Rejects as the provider does. */
  async get() {
    if (!this.provider || (this.#token && this.now() < this.#expiresAtMs)) return this.value;
    this.#asking ??= (async () => this.provider())().finally(() => {
      this.#asking = undefined;
    });
    const token = await this.#asking;
    if (this.#token !== token) this.#expiresAtMs = Infinity;
    this.#token = token;
    return this.value;
  }

  /** This token is used up: the next `get` asks anew, unless somebody has already. */
  spend(token = this.#token) {
    if (token === this.#token) this.#token = undefined;
  }

  /** The server told how long the token lives from now; undefined: it did not say. */
  expiresIn(seconds = Infinity) {
    this.#expiresAtMs = this.now() + seconds * 1000;
  }
}
