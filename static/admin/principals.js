/** Sessions by whom they speak for. Pure. */

/**
 * @param {{subject?: string, client?: string, issuer?: string, transport?: string, channel_count?: number}[]} sessions
 * @returns {{key: string, subject: string, client: string, issuer: string, sessions: number, websocket: number,
 *   sse: number, longpoll: number, away: number, subscriptions: number}[]} who has the most first
 */
export function byPrincipal(sessions) {
  const found = new Map();
  for (const { subject = "", client = "", issuer = "", transport = "", channel_count: channels = 0 } of sessions) {
    const key = JSON.stringify([issuer, subject, client]);
    const one = found.get(key) ?? { key, subject, client, issuer, sessions: 0, websocket: 0, sse: 0, longpoll: 0, away: 0, subscriptions: 0 };
    one.sessions += 1;
    one[transport || "away"] += 1;
    one.subscriptions += channels;
    found.set(key, one);
  }
  return [...found.values()].sort((a, b) => b.sessions - a.sessions || (a.key < b.key ? -1 : 1));
}
