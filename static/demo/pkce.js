/** Proof Key for Code Exchange (RFC 7636): who ends a sign-in shows that it is who began it. */

/** 256 random bits that may stand in a URL; long enough for a `code_verifier` (section 4.1). */
export function randomText(crypto = globalThis.crypto) {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/** The `code_challenge` of a verifier by S256. Rejects where the page came neither by https nor from this machine. */
export async function challengeOf(verifier, crypto = globalThis.crypto) {
  if (!crypto.subtle) throw new Error("Signing in needs https, or a server on this machine.");
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
