/** Which part of the page is on show: the one that the URL's fragment names. */

export class Tabs {
  #views;
  #links;
  #shown;

  /** @param {{nav: HTMLElement, views: HTMLElement[], shown: (name: string) => void}} given */
  constructor({ nav, views, shown }) {
    this.#views = views;
    this.#links = [...nav.querySelectorAll("a")];
    this.#shown = shown;
    addEventListener("hashchange", () => this.show());
  }

  get current() {
    const name = location.hash.slice(1);
    return this.#views.some(({ id }) => id === name) ? name : this.#views[0].id;
  }

  show() {
    const name = this.current;
    for (const view of this.#views) view.hidden = view.id !== name;
    for (const link of this.#links) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    scrollTo({ top: 0 });
    this.#shown(name);
  }

  go(name) {
    if (this.current === name) this.show();
    else location.hash = name;
  }
}
