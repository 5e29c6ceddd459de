/** Asks the development issuer for an access token (RFC 6749, section 4.4). The token is given on and kept nowhere. */

/**
 * `scope`: no more than the page needs (RFC 9700, section 2.3), whatever the client could have.
 * @returns {() => Promise<string>} rejects when the issuer refuses or cannot be reached
 */
export function tokenProvider(url, clientId, scope) {
  return async () => {
    const response = await fetch(url, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "client_credentials", client_id: clientId, scope }),
      cache: "no-store",
    });
    if (!response.ok) throw new Error(`The issuer answered ${response.status}.`);
    return (await response.json()).access_token;
  };
}
