/** Figures as people read them. Every function gives plain text with a unit and a width that hardly changes. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const NARROW_SPACE = "\u202f";

/** 12345 -> "12,345" */
export function count(value) {
  return WHOLE.format(value);
}

/** 12345678 -> "12.3M", for places without room; exact below ten thousand. */
export function shortCount(value) {
  if (value < 10_000) return WHOLE.format(value);
  if (value < 1_000_000) return `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`;
  return `${(value / 1_000_000).toFixed(1)}M`;
}

/** Milliseconds as [figure, unit]: [“4.2”, “ms”], [“1.3”, “s”]; null as a dash. */
export function duration(value_ms) {
  if (value_ms === null || !Number.isFinite(value_ms)) return ["–", "ms"];
  if (value_ms >= 1000) return [(value_ms / 1000).toFixed(value_ms < 10_000 ? 1 : 0), "s"];
  return [value_ms < 10 ? value_ms.toFixed(1) : String(Math.round(value_ms)), "ms"];
}

/** The same as one text: "4.2 ms". */
export function durationText(value_ms) {
  return duration(value_ms).join(NARROW_SPACE);
}

/** 0.1234 of a hundred -> "12 %" */
export function percent(value) {
  return `${Math.round(value)}${NARROW_SPACE}%`;
}

/** Bytes in binary steps, as memory is sold: "5.2 GiB". */
export function memorySize(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)}${NARROW_SPACE}GiB` : `${Math.round(bytes / 2 ** 20)}${NARROW_SPACE}MiB`;
}

/** Bytes per second in decimal steps, as networks are sold: "1.4 MB/s". */
export function byteRate(bytes_per_s) {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let value = bytes_per_s;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 100 ? 1 : 0;
  return `${value.toFixed(digits)}${NARROW_SPACE}${units[unit]}`;
}
