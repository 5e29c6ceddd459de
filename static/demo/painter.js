/** Calls back to paint: smoothly, or twice a second for people who asked for less motion, and never while hidden. */

const SMOOTH_MS = 1000 / 30;
const CALM_MS = 500;

/** @param {() => void} paint */
export function paintRegularly(paint) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let painted_ms = -Infinity;
  const frame = (now_ms) => {
    // Half a frame early is on time: screens do not refresh in multiples of our interval.
    if (now_ms - painted_ms >= (calm.matches ? CALM_MS : SMOOTH_MS) - 8) {
      painted_ms = now_ms;
      paint();
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}
