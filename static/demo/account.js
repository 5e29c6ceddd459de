/**
 * Who is signed in, and what to do when nobody is. Loading the page leads to the issuer at once, so that one click there
 * is all it takes; a person who signed out or denied is asked before being sent away again.
 */

import { SignInError } from "./signin.js";
import { setText } from "./text.js";

const WINDOW = "hybrid-sign-in";
const SIGNED_OUT = "#signed-out";

/** True in the window that `Account` opened: the answer was handed to the page that waits for it. */
export function wasHandedBack({ opener, name, location, close } = window) {
  if (!opener || name !== WINDOW || !new URLSearchParams(location.search).has("state")) return false;
  opener.postMessage({ signIn: location.search }, location.origin);
  close.call(window);
  return true;
}

export class Account {
  #signIn;
  #gate;
  #ended;
  #subject;
  #networkReturned;

  /** `gate`: shown in place of the page; `ended`: a notice above a page that goes on; `bar`: who is signed in. */
  constructor({ signIn, gate, ended, bar, networkReturned }) {
    this.#signIn = signIn;
    this.#gate = gate;
    this.#ended = ended;
    this.#subject = bar.querySelector('[data-part="subject"]');
    this.#networkReturned = networkReturned;
    gate.querySelector("button").addEventListener("click", () => this.#leave());
    ended.querySelector("button").addEventListener("click", () => this.#signInBeside());
    bar.querySelector("button").addEventListener("click", () => this.#signOut());
    signIn.on("ended", () => {
      ended.hidden = false;
    });
    signIn.on("signed-in", () => this.#show());
    addEventListener("message", (event) => this.#handedBack(event));
  }

  /** True when somebody is signed in; otherwise the person is on the way to the issuer, or asked what to do. */
  async arrive() {
    const query = new URLSearchParams(location.search);
    if (query.has("state")) {
      history.replaceState(null, "", location.pathname); // a code is used once, and this is what it was for
      return this.#finish(query);
    }
    if (location.hash === SIGNED_OUT) this.#ask("You are signed out", "Your tokens are revoked.");
    else await this.#leave();
    return false;
  }

  async #finish(query) {
    try {
      await this.#signIn.finish(query);
      return true;
    } catch (error) {
      this.#ask("You are not signed in", error.message);
      return false;
    }
  }

  /** Off to the issuer. This page leaves no entry behind, from which "back" would only lead forward again. */
  async #leave() {
    try {
      location.replace(await this.#signIn.begin());
    } catch (error) {
      this.#ask("You cannot sign in now", error.message);
    }
  }

  /** In a window of its own: the sessions, their charts and counters stay. Opened at once, or it would be blocked. */
  async #signInBeside() {
    const beside = open("", WINDOW, "popup,width=500,height=800");
    try {
      const url = await this.#signIn.begin();
      if (beside) beside.location.replace(url);
      else location.assign(url);
    } catch (error) {
      beside?.close();
      setText(this.#ended.querySelector('[data-part="words"]'), error.message);
    }
  }

  async #handedBack({ origin, data }) {
    if (origin !== location.origin || typeof data?.signIn !== "string") return;
    try {
      await this.#signIn.finish(new URLSearchParams(data.signIn));
      this.#networkReturned(); // whoever waits to try again need not wait any longer
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setText(this.#ended.querySelector('[data-part="words"]'), error.message);
    }
  }

  async #signOut() {
    await this.#signIn.signOut();
    history.replaceState(null, "", location.pathname + SIGNED_OUT);
    location.reload(); // what knew the tokens goes with the page
  }

  #show() {
    setText(this.#subject, this.#signIn.subject ?? "");
    this.#ended.hidden = true;
    document.documentElement.dataset.account = "in";
  }

  #ask(title, words) {
    setText(this.#gate.querySelector('[data-part="title"]'), title);
    setText(this.#gate.querySelector('[data-part="words"]'), words);
    document.documentElement.dataset.account = "out";
    this.#gate.querySelector("button").focus();
  }
}
