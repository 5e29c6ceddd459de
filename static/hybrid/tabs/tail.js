/** The last publications of a channel, and what follows a position in them. */

const ENTRIES_MAX = 128; // of 64 KB at most: followers who fall behind further are served from the history

export const positionOf = ({ offset, epoch, tag }) => ({ offset, epoch, tag });

/** `{offset: 0}` is the start of any log. */
export const isSame = (a, b) => a.offset === b.offset && (!a.offset || (a.epoch === b.epoch && a.tag === b.tag));

export class Tail {
  #entries = [];

  /** `start`: the position from which on publications are added. */
  constructor(start) {
    this.start = this.position = start;
  }

  add(publication) {
    this.#entries.push(publication);
    this.position = positionOf(publication);
    if (this.#entries.length > ENTRIES_MAX) this.start = positionOf(this.#entries.shift());
  }

  /** The publications after a position, or undefined where they are not all here. */
  after(position) {
    if (isSame(position, this.start)) return [...this.#entries];
    const index = this.#entries.findIndex((entry) => isSame(position, entry));
    return index < 0 ? undefined : this.#entries.slice(index + 1);
  }
}
