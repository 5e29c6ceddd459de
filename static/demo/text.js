/** Writes text where it differs: an equal write still costs layout, and tells screen readers of a change. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
