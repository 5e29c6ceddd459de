/**
 * A table whose rows keep their elements while what they show changes, so that focus, selection and scrolling survive
 * the next answer. On a phone the style sheet shows each row as a card, with the columns' titles beside the cells.
 */

import { setText } from "../demo/text.js";
import { make } from "./dom.js";

/**
 * @template Row
 * @typedef {{title: string, text: (row: Row) => string, kind?: "name" | "number" | "mono", data?: (row: Row) => Record<string, string>,
 *   hint?: (row: Row) => string}} Column
 * @typedef {{label: string, describe: (row: Row) => string, run: (row: Row) => void, isDanger?: boolean, isOff?: (row: Row) => boolean}} Action
 */
export class Table {
  element;
  #body;
  #columns;
  #actions;
  #keyOf;
  #rows = new Map();

  /** @param {{caption: string, columns: Column[], actions?: Action[], keyOf: (row: object) => string}} given */
  constructor({ caption, columns, actions = [], keyOf }) {
    this.#columns = columns;
    this.#actions = actions;
    this.#keyOf = keyOf;
    this.#body = make("tbody");
    const heads = columns.map(({ title, kind }) => make(`th${kind ? `.is-${kind}` : ""}`, { scope: "col" }, title));
    if (actions.length) heads.push(make("th", { scope: "col" }, make("span.unseen", {}, "Actions")));
    // Explicit roles: a style sheet that shows rows as cards takes the implicit ones away.
    this.element = make(
      "table.table",
      { role: "table" },
      make("caption.unseen", {}, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
      this.#body,
    );
    this.#body.setAttribute("role", "rowgroup");
    for (const head of heads) head.setAttribute("role", "columnheader");
  }

  /** @param {object[]} rows in their order */
  show(rows) {
    const keys = new Set(rows.map(this.#keyOf));
    for (const [key, { element }] of this.#rows) {
      if (keys.has(key)) continue;
      element.remove();
      this.#rows.delete(key);
    }
    rows.forEach((row, place) => {
      const key = this.#keyOf(row);
      const known = this.#rows.get(key) ?? this.#add(key);
      known.row = row;
      this.#fill(known);
      if (this.#body.children[place] !== known.element) this.#body.insertBefore(known.element, this.#body.children[place] ?? null);
    });
  }

  #add(key) {
    const known = { row: null, element: make("tr", { role: "row" }), cells: [], buttons: [] };
    for (const { title, kind } of this.#columns) {
      const text = make("span");
      known.cells.push(text);
      known.element.append(make(`td${kind ? `.is-${kind}` : ""}`, { role: "cell", data: { label: title } }, text));
    }
    if (this.#actions.length) {
      known.buttons = this.#actions.map((action) =>
        make(`button.button.is-small${action.isDanger ? ".is-danger" : ""}`, { type: "button", onclick: () => action.run(known.row) }, action.label),
      );
      known.element.append(make("td.is-actions", { role: "cell" }, make("span", {}, ...known.buttons)));
    }
    this.#rows.set(key, known);
    return known;
  }

  #fill({ row, cells, buttons }) {
    this.#columns.forEach(({ text, data, hint }, place) => {
      const cell = cells[place];
      setText(cell, text(row));
      if (data) Object.assign(cell.dataset, data(row));
      if (hint) cell.title = hint(row);
    });
    this.#actions.forEach(({ label, describe, isOff }, place) => {
      buttons[place].setAttribute("aria-label", `${label.replace("…", "")}: ${describe(row)}`);
      buttons[place].disabled = isOff?.(row) ?? false;
    });
  }
}
