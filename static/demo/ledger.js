/**
 * Counts what a subscriber was given, from nothing but the positions of the publications in the order they came.
 *
 * It knows neither client nor server and must stay so: it is the page's own witness. The promise it watches is that of
 * docs/protocol.md, "Promises": per channel, offsets rise by exactly one, or a reset is told.
 *
 * @typedef {{epoch: string, offset: number, tag?: string}} Position
 * @typedef {"first" | "next" | "hole" | "late" | "repeat" | "fork"} Verdict
 */

/** Holes remembered per channel, to tell a late publication from a repeated one. Older holes stay lost. */
const HOLES_MAX = 256;
/** Tags remembered per channel, to tell a repeat from another publication under the same offset. */
const TAGS_MAX = 1024;

class ChannelLedger {
  received = 0;
  lost = 0;
  repeated = 0;
  reordered = 0;
  /** Other publications under an offset that was taken: two logs that both claim to be the channel. */
  forked = 0;
  resets = 0;
  epoch = "";
  /** The highest offset received in this epoch; -1 before the first publication. */
  offset = -1;
  /** @type {{from: number, to: number}[]} missing offsets, both ends included, ascending */
  #holes = [];
  /** @type {Map<number, string>} offset -> tag, oldest first */
  #tags = new Map();

  /** @param {Position} position @returns {Verdict} */
  record({ epoch, offset, tag = "" }) {
    this.received += 1;
    // A reset to the very start names no epoch: whichever comes is its, and offset 1 is expected.
    if (this.offset === 0 && this.epoch === "") this.epoch = epoch;
    if (this.offset < 0 || epoch !== this.epoch) {
      const isUnannounced = this.offset >= 0;
      if (isUnannounced) this.resets += 1;
      this.#startAt(epoch, offset);
      this.#remember(offset, tag);
      return "first";
    }
    const expected = this.offset + 1;
    if (offset >= expected) {
      if (offset > expected) {
        this.lost += offset - expected;
        this.#holes.push({ from: expected, to: offset - 1 });
        if (this.#holes.length > HOLES_MAX) this.#holes.shift();
      }
      this.offset = offset;
      this.#remember(offset, tag);
      return offset > expected ? "hole" : "next";
    }
    if (this.#fill(offset)) {
      this.lost -= 1;
      this.reordered += 1;
      this.#remember(offset, tag);
      return "late";
    }
    const known = this.#tags.get(offset);
    if (known !== undefined && known !== tag) {
      this.forked += 1;
      return "fork";
    }
    this.repeated += 1;
    return "repeat";
  }

  /** @param {Position} position where delivery was told to start anew */
  reset({ epoch, offset }) {
    this.resets += 1;
    this.#startAt(epoch, offset);
  }

  #startAt(epoch, offset) {
    this.epoch = epoch;
    this.offset = offset;
    this.#holes = [];
    this.#tags.clear();
  }

  #remember(offset, tag) {
    this.#tags.set(offset, tag);
    if (this.#tags.size > TAGS_MAX) this.#tags.delete(this.#tags.keys().next().value);
  }

  /** Takes one offset out of the holes; false when it was not missing. */
  #fill(offset) {
    const index = this.#holes.findIndex(({ from, to }) => from <= offset && offset <= to);
    if (index < 0) return false;
    const { from, to } = this.#holes[index];
    const rest = [
      { from, to: offset - 1 },
      { from: offset + 1, to },
    ].filter((hole) => hole.from <= hole.to);
    this.#holes.splice(index, 1, ...rest);
    return true;
  }
}

const FIGURES = Object.freeze(["received", "lost", "repeated", "reordered", "forked", "resets"]);

export class Ledger {
  /** @type {Map<string, ChannelLedger>} a Map, because the server chooses the names */
  #channels = new Map();

  /** @param {Position & {channel: string}} publication as it was received @returns {Verdict} */
  record(publication) {
    return this.#of(publication.channel).record(publication);
  }

  /** @param {string} channel @param {Position} position told by the server's reset */
  reset(channel, position) {
    this.#of(channel).reset(position);
  }

  /** Figures of one channel; zeros and offset -1 for one that never spoke. */
  channel(name) {
    const { received, lost, repeated, reordered, forked, resets, epoch, offset } =
      this.#channels.get(name) ?? new ChannelLedger();
    return { received, lost, repeated, reordered, forked, resets, epoch, offset };
  }

  /** Sums over all channels. */
  totals() {
    const sums = Object.fromEntries(FIGURES.map((figure) => [figure, 0]));
    for (const channel of this.#channels.values()) {
      for (const figure of FIGURES) sums[figure] += channel[figure];
    }
    return sums;
  }

  #of(name) {
    let channel = this.#channels.get(name);
    if (!channel) {
      channel = new ChannelLedger();
      this.#channels.set(name, channel);
    }
    return channel;
  }
}
