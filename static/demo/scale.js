/** From figures to heights between 0 (bottom) and 1 (top), and the lines to draw at round figures. Pure. */

/** @typedef {{place: (value: number) => number, ticks: {value: number, label: string}[]}} Scale */

/**
 * Even steps from 0 to `max`, with lines at 0, half and all of it.
 * @param {(value: number) => string} label
 * @returns {Scale}
 */
export function linearScale(max, label) {
  return {
    place: (value) => clamp(value / max),
    ticks: [0, max / 2, max].map((value) => ({ value, label: label(value) })),
  };
}

/**
 * One step per power of ten, so that an everyday millisecond and an outage of seconds are both readable.
 * @returns {Scale}
 */
export function logScale(min, max, label) {
  const low = Math.log10(min);
  const span = Math.log10(max) - low;
  const ticks = [];
  for (let power = Math.ceil(low); power <= Math.log10(max) + 1e-9; power += 1) {
    const value = 10 ** power;
    ticks.push({ value, label: label(value) });
  }
  return { place: (value) => clamp((Math.log10(Math.max(value, min)) - low) / span), ticks };
}

/** The least of 1, 2, 5 times a power of ten that is not below `value`. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}
