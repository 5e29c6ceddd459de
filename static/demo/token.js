/** The tokens of one session, out of the sign-in that all of the page's sessions share. */

/**
 * A session asks only when the token it was given is of no use any more, so it is never given the same one twice.
 * @param {import("./signin.js").SignIn} signIn
 * @returns {() => Promise<string>} rejects when nobody is signed in, or the issuer cannot be reached
 */
export function tokenProvider(signIn) {
  let last = null;
  return async () => {
    last = await signIn.tokenAfter(last);
    return last;
  };
}
