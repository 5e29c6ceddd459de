/** One POST, as sse, longpoll and uplink make it: the token in the header, refusals as HybridError. */

import { encode } from "../codec.js";
import { HybridError, TOKEN_REFUSED } from "../codes.js";

/**
 * Resolves with a response whose status is 2xx. A 401 is answered once with a new token.
 * Rejects with HybridError (`number` 0 and `status` where what answered is not our server), or as fetch does.
 */
export const post = async ({ environment, url, tokens }, path, body, accept, signal) => {
  for (let isSecondTry = false; ; isSecondTry = true) {
    const token = await tokens.get();
    const response = await environment.fetch(url + path, {
      method: "POST",
      headers: {
        Accept: accept,
        "Content-Type": "application/json",
        ...(token && { Authorization: `Bearer ${token}` }),
      },
      body: encode(body),
      cache: "no-store",
      signal,
    });
    if (response.ok) return response;
    const error = await refusal(response);
    if (response.status !== 401 || error.number === TOKEN_REFUSED || isSecondTry || !tokens.provider) throw error;
    tokens.spend(token);
  }
};

/** The problem document (RFC 9457) in an answer, or what can be said of an answer that is not our server's. */
const refusal = async (response) => {
  const { status, headers } = response;
  const problem = {
    name: "http",
    detail: `HTTP ${status}`,
    retry_after_s: Number(headers.get("Retry-After")) || undefined,
    ...(await response.json().catch(() => undefined)),
  };
  return Object.assign(HybridError.fromWire(problem), { status, problem });
};
