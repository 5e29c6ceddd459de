/** Pages of a list that is read forwards only: each is behind a name, and the names of those before are remembered. */

export class Pager {
  #afters = [""];
  #next = null;

  /** Behind which name the page on show begins; "" for the first. */
  get after() {
    return this.#afters.at(-1);
  }

  get number() {
    return this.#afters.length;
  }

  get hasPrevious() {
    return this.#afters.length > 1;
  }

  get hasNext() {
    return this.#next !== null;
  }

  /** @param {string | undefined} next what the answer says of the page behind it */
  answered(next) {
    this.#next = next ?? null;
  }

  forward() {
    if (this.#next !== null) this.#afters.push(this.#next);
    this.#next = null;
  }

  back() {
    if (this.hasPrevious) this.#afters.pop();
    this.#next = null;
  }

  /** Another question: from the start. */
  reset() {
    this.#afters = [""];
    this.#next = null;
  }
}
