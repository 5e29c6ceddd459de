/** One channel's log with the promises of docs/protocol.md: offsets, epochs, tags, continuing after a position. */
export class Log {
  entries = [];
  offset = 0;
  #tag = "";

  constructor(name, random) {
    Object.assign(this, { name, random });
  }

  /** Everything is lost; the next append begins another epoch. */
  lose() {
    this.entries = [];
    this.offset = 0;
    this.epoch = undefined;
    this.#tag = "";
  }

  /** Only the last `count` entries are kept. */
  trim(count) {
    this.entries = count ? this.entries.slice(-count) : [];
  }

  get head() {
    return this.offset ? { offset: this.offset, epoch: this.epoch, tag: this.#tag } : { offset: 0 };
  }

  append(data, type) {
    this.epoch ??= `e${Math.floor(this.random() * 1e9).toString(36)}`;
    this.#tag = Math.floor(this.random() * 2 ** 32)
      .toString(16)
      .padStart(8, "0");
    const entry = {
      channel: this.name,
      offset: ++this.offset,
      epoch: this.epoch,
      tag: this.#tag,
      data,
      ...(type && { type }),
    };
    this.entries.push(entry);
    return entry;
  }

  /** `{position, recovered, publications}` for a reader that asks to go on so. */
  continue({ position, history = 0 }) {
    if (!position) {
      const first = history ? (this.entries.at(-history) ?? this.entries[0]) : undefined;
      if (!first) return { position: this.head, recovered: true, publications: [] };
      const publications = this.entries.filter(({ offset }) => offset >= first.offset);
      const before = this.entries.find(({ offset }) => offset === first.offset - 1);
      const start =
        first.offset === 1
          ? { offset: 0 }
          : { offset: first.offset - 1, epoch: this.epoch, tag: before?.tag ?? "00000000" };
      return { position: start, recovered: true, publications };
    }
    if (!this.#reaches(position)) return { position: this.head, recovered: false, publications: [] };
    return { position, recovered: true, publications: this.entries.filter(({ offset }) => offset > position.offset) };
  }

  #reaches({ offset, epoch, tag }) {
    if (!offset) return this.offset === 0 || this.entries[0]?.offset === 1;
    if (epoch !== this.epoch) return false;
    if (offset === this.offset) return tag === this.#tag;
    return this.entries.some((entry) => entry.offset === offset && entry.tag === tag);
  }
}
