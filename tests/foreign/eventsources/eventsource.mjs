// npm's eventsource, with a header by its own `fetch`.
import { EventSource } from "eventsource";

const { URL: url, TOKEN: token } = process.env;
const source = new EventSource(url, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
for (const type of ["message", "note", "hybrid.reset"])
  source.addEventListener(type, ({ data, lastEventId }) => console.log(JSON.stringify([type, data, lastEventId])));
