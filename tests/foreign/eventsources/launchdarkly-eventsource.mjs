// launchdarkly-eventsource for Node.
import { EventSource } from "launchdarkly-eventsource";

const source = new EventSource(process.env.URL, {
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
  initialRetryDelayMillis: 50,
  errorFilter: () => true, // otherwise it gives up
});
source.onerror = () => {};
for (const type of ["message", "note", "hybrid.reset"])
  source.addEventListener(type, ({ data, lastEventId }) => console.log(JSON.stringify([type, data, lastEventId])));
