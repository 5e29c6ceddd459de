/**
 * Who may share: tabs with the same URL and the same transports, whose tokens speak for the same party with the same
 * rights. The token is read, not verified: what it says is a label here, and the server decides on the connection.
 *
 * The label is hashed, and with it an opaque token, for everything of this origin can listen on a BroadcastChannel.
 * `crypto.subtle` exists wherever `navigator.locks` does; without it nothing is shared.
 */

/** What makes two tokens the same: whose, for whom, for what. Not `exp`, `iat`, `jti`: those differ each time. */
const CLAIMS = [
  ...["iss", "sub", "aud", "client_id", "azp", "sid", "cnf"],
  ...["scope", "scp", "roles", "groups", "entitlements", "permissions", "authorization_details"],
];

/** The payload of a JWT, or undefined for whatever else is a token. */
export const claimsOf = (token) => {
  const parts = token.split(".");
  if (parts.length !== 3) return undefined;
  try {
    const bytes = Uint8Array.from(atob(parts[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims?.iss && claims.sub ? claims : undefined;
  } catch {
    return undefined;
  }
};

/** Equal for tokens that may share; "" for an anonymous client. */
export const labelOf = (token) => {
  const claims = claimsOf(token);
  return claims ? JSON.stringify(CLAIMS.map((name) => claims[name] ?? null)) : token;
};

/** SHA-256 in hexadecimal digits, or undefined where the platform does not offer it. */
export const digest = async (text) => {
  const hash = await globalThis.crypto?.subtle?.digest("SHA-256", new TextEncoder().encode(text));
  return hash && Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
};

/** The name of the lock and of the channel, or undefined where nothing may be shared. */
export const groupName = async ({ url, transports, token, digest: hash = digest }) => {
  const hashed = await hash(JSON.stringify([url, transports, labelOf(token)]));
  return hashed && `hybrid.tabs.v1:${hashed}`;
};
