/** Makes elements. Text is always text: nothing here, and nothing that uses this, parses HTML. */

/**
 * @param {string} tag with classes behind dots: "p.note.is-small"
 * @param {Record<string, unknown>} [attributes] `on…` are listeners, `data` is a dataset, false and null are left out
 * @param {...(Node | string | null)} children
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @returns {(name: string) => HTMLElement} finds a part of `root` by its `data-part` */
export function partsOf(root) {
  return (name) => {
    const found = root.querySelector(`[data-part="${name}"]`);
    if (!found) throw new Error(`there is no part ${name}`);
    return found;
  };
}
