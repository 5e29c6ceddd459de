/** Waiting with an end to it. */

export class Late extends Error {}

/** As the promise; rejects with Late when it is not settled within `ms`. `onLate` lets go of what was waited for. */
export function within(promise, ms, onLate = () => {}) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      onLate();
      reject(new Late());
    }, ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** As the promise; resolves with undefined when it is not settled within `ms`. */
export async function pause(ms, promise) {
  try {
    return await within(promise, Math.max(0, ms));
  } catch (error) {
    if (!(error instanceof Late)) throw error;
    return undefined;
  }
}
