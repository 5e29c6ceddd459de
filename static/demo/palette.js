/** The style sheet's colours for drawing on a canvas, read again when the person changes between light and dark. */

const NAMES = [
  ...["ink", "ink-soft", "ink-faint", "line", "danger"],
  ...["websocket", "sse", "longpoll"],
  ...["cpu", "memory", "inbound", "outbound"],
];

/** @type {Record<string, string>} name -> colour as #rrggbb; the same object for ever, its contents change */
export const palette = {};

function read() {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) palette[name] = style.getPropertyValue(`--${name}`).trim();
}

export function followScheme() {
  read();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", read);
  matchMedia("(prefers-contrast: more)").addEventListener("change", read);
}
