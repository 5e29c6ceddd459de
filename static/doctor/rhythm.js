/**
 * What a network does to events that follow each other, by when each was asked for and when it came. Pure.
 *
 * `hybrid doctor` judges the same way, `hybrid/client/doctor/rhythm.py`; `tests/vectors/rhythms.json` keeps the two alike.
 */

/** What comes within this share of a gap came together. */
const TOGETHER = 0.25;
/** Of a gap: so much more than the quickest is no jitter. */
const BELATED = 0.75;

/**
 * @typedef {{sent: number, came: number | null}} Beat when it was asked for, and when it came, if it did
 * @typedef {"even" | "late" | "lumps" | "behind" | "stopped" | "mute"} Kind
 */

/**
 * `lag`: how late the usual one came, or, in lumps, the latest. `count`: came together, or came at all.
 * @param {Beat[]} beats asked for `gap` apart, two or more; `held` and more is late. All in one unit of time.
 * @returns {{kind: Kind, lag: number, count: number}}
 */
export function judge(beats, { gap, held }) {
  const came = beats.filter((beat) => beat.came !== null);
  if (!came.length) return { kind: "mute", lag: 0, count: 0 };
  const lags = came.map((beat) => beat.came - beat.sent);
  const usual = median(lags);
  if (came.length < beats.length) {
    const isBehind = beats.every(({ came }, index) => came === null || came >= (beats[index + 1]?.sent ?? Infinity));
    return { kind: isBehind ? "behind" : "stopped", lag: usual, count: came.length };
  }
  const sizes = [1];
  for (let index = 1; index < came.length; index += 1) {
    if (came[index].came - came[index - 1].came < gap * TOGETHER) sizes[sizes.length - 1] += 1;
    else sizes.push(1);
  }
  if (sizes.length <= came.length / 2 && Math.max(...lags) - Math.min(...lags) >= gap * BELATED)
    return { kind: "lumps", lag: Math.max(...lags), count: Math.max(...sizes) };
  return { kind: usual >= held ? "late" : "even", lag: usual, count: came.length };
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
