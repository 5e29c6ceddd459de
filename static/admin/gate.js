/**
 * The way in: a sign-in at the development issuer, where there is one, or a token that was got elsewhere. And what is said
 * when either is over, or was never enough.
 */

import { SignIn, SignInError } from "../demo/signin.js";
import { setText } from "../demo/text.js";
import { PastedToken, SCOPE } from "./credentials.js";
import { partsOf } from "./dom.js";

const METADATA = "/.well-known/oauth-protected-resource";
const DEVELOPMENT_ISSUER = "/dev-issuer";

export class Gate {
  #root;
  #parts;
  #ended;
  #bar;
  #signIn;
  #enter;
  #credentials = null;

  /** `enter(credentials)` is called when there is something to ask with; `bar` says whose it is. */
  constructor({ root, ended, bar, enter }) {
    this.#root = root;
    this.#parts = partsOf(root);
    this.#ended = ended;
    this.#bar = bar;
    this.#enter = enter;
    const returnsTo = `${location.origin}${location.pathname}`;
    this.#signIn = new SignIn({ path: DEVELOPMENT_ISSUER, clientId: "admin", scope: SCOPE, returnsTo });
    this.#parts("sign-in").addEventListener("click", () => this.#leave());
    this.#parts("paste").addEventListener("submit", (event) => this.#pasted(event));
    ended.querySelector("button").addEventListener("click", () => this.#again());
    bar.querySelector("button").addEventListener("click", () => this.signOut());
  }

  /** What the person came with, or asks for it. */
  async arrive() {
    const query = new URLSearchParams(location.search);
    if (query.has("state")) {
      history.replaceState(null, "", location.pathname + location.hash); // a code is used once, and this is what it was for
      try {
        await this.#signIn.finish(query);
        this.#let(this.#signIn);
        return;
      } catch (error) {
        if (!(error instanceof SignInError)) throw error;
        await this.#ask("You are not signed in", error.message);
        return;
      }
    }
    await this.#ask("Operators only", "What this page shows and does, it asks of the server with your token.");
  }

  /** It is over, or not enough: what is on show stays, and grows old. */
  refused(error) {
    const words = error.scope ? `Your token lacks the scope ${error.scope}, without which this page shows nothing.` : "What is shown here is what was known before; it goes on when you sign in.";
    setText(partsOf(this.#ended)("title"), error.scope ? "You may not look at this." : "Your sign-in has ended.");
    setText(partsOf(this.#ended)("words"), words);
    this.#ended.hidden = false;
  }

  async signOut() {
    await this.#credentials?.signOut();
    location.reload(); // what knew the token goes with the page
  }

  #let(credentials) {
    this.#credentials = credentials;
    setText(partsOf(this.#bar)("subject"), credentials.subject || "token");
    this.#ended.hidden = true;
    document.documentElement.dataset.account = "in";
    this.#enter(credentials);
  }

  #again() {
    if (this.#credentials === this.#signIn) this.#leave();
    else this.#ask("Another token", "The page goes on with it.");
  }

  async #leave() {
    try {
      location.assign(await this.#signIn.begin());
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      await this.#ask("You cannot sign in now", error.message);
    }
  }

  #pasted(event) {
    event.preventDefault();
    const field = event.target.elements.token;
    try {
      const credentials = new PastedToken(field.value);
      field.value = "";
      this.#let(credentials);
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setText(this.#parts("words"), error.message);
      field.focus();
    }
  }

  async #ask(title, words) {
    setText(this.#parts("title"), title);
    setText(this.#parts("words"), words);
    document.documentElement.dataset.account = "out";
    const issuers = await issuersOf();
    const isOurs = issuers?.some((url) => new URL(url).pathname === DEVELOPMENT_ISSUER) ?? false;
    this.#parts("sign-in").hidden = !isOurs;
    this.#parts("paste").hidden = false;
    const others = (issuers ?? []).filter((url) => new URL(url).pathname !== DEVELOPMENT_ISSUER);
    setText(this.#parts("issuers"), others.length ? `Get one from ${others.join(" or ")}, for example by “hybrid token --device”.` : "");
    if (issuers === null) setText(this.#parts("words"), "The server does not answer. Load the page again when it does.");
    (isOurs ? this.#parts("sign-in") : this.#root.querySelector("textarea")).focus();
  }
}

/** Whose tokens the server takes (RFC 9728), as URLs; null where it does not say. */
async function issuersOf() {
  try {
    const response = await fetch(METADATA, { cache: "no-store" });
    const { authorization_servers: issuers } = await response.json();
    return Array.isArray(issuers) ? issuers.filter((url) => URL.canParse(url)) : [];
  } catch {
    return null;
  }
}
