/** A form of filters: what it says counts a moment after the last key, or at once when it is sent or chosen. */

const STILL_MS = 300;

/** @param {HTMLFormElement} form @param {() => void} changed */
export function afterTyping(form, changed) {
  let timer = null;
  const soon = (delay_ms) => {
    clearTimeout(timer);
    timer = setTimeout(changed, delay_ms);
  };
  form.addEventListener("input", (event) => soon(event.target.tagName === "SELECT" ? 0 : STILL_MS));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    soon(0);
  });
}
