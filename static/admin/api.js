/** Asks the server API with the operator's token. Whatever fails comes as an `ApiError` with a sentence for people. */

const PATIENCE_MS = 15_000;

/** `name` is that of the server's error, or "offline" (no answer), or "signed-out" (there is no token to ask with). */
export class ApiError extends Error {
  name = "ApiError";

  constructor(message, { kind, scope = "" }) {
    super(message);
    this.kind = kind;
    /** The scope that the token would need, where that is what is missing. */
    this.scope = scope;
  }
}

export class Api {
  #base;
  #credentials;
  #fetch;

  /** @param {{base: URL, credentials: {tokenAfter: (last: string | null) => Promise<string>}, fetch?: typeof fetch}} given */
  constructor({ base, credentials, fetch = globalThis.fetch.bind(globalThis) }) {
    this.#base = base;
    this.#credentials = credentials;
    this.#fetch = fetch;
  }

  /** @param {Record<string, string | number>} [query] empty values are left out */
  get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return this.#ask(`${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`, { method: "GET" });
  }

  /** `key` makes asking again safe: the server does it once and gives the first answer again. */
  post(path, body, { key = null, type = "application/json", headers = {} } = {}) {
    const sent = { "Content-Type": type, ...headers, ...(key && { "Idempotency-Key": key }) };
    return this.#ask(path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), headers: sent });
  }

  async #ask(path, options) {
    const first = await this.#token(null);
    const response = await this.#send(path, options, first);
    if (response.status !== 401) return this.#read(response);
    return this.#read(await this.#send(path, options, await this.#token(first))); // it is over: with another one, once
  }

  async #token(last) {
    try {
      return await this.#credentials.tokenAfter(last);
    } catch (error) {
      throw new ApiError(error.message, { kind: error.isOver === false ? "offline" : "signed-out" });
    }
  }

  async #send(path, options, token) {
    try {
      return await this.#fetch(new URL(path, this.#base), {
        ...options,
        headers: { ...options.headers, Authorization: `Bearer ${token}` },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
    } catch {
      throw new ApiError("The server does not answer.", { kind: "offline" });
    }
  }

  async #read(response) {
    const body = await response.json().catch(() => null);
    if (response.ok && body !== null) return body;
    if (response.status === 401) {
      const detail = body?.detail ?? "The server does not accept the token.";
      throw new ApiError(detail, { kind: "signed-out" });
    }
    if (body === null) {
      // Not in our words, so it is of a proxy in between, or the server went away meanwhile.
      throw new ApiError(`Something in between answered ${response.status}.`, { kind: "offline" });
    }
    const scope = response.status === 403 ? (/hybrid:\S*[^\s.]/.exec(body.detail ?? "")?.[0] ?? "") : "";
    throw new ApiError(body.detail ?? `The server answered ${response.status}.`, { kind: body.name ?? "internal", scope });
  }
}
