import { Client, HybridError, type Position, type DeliveredPublication, type Stats } from "HYBRID";

const client = new Client({
  url: "/v1",
  getToken: async () => "token",
  transports: ["websocket", "sse", "longpoll"],
  name: "program",
  version: "1",
  debug: true,
  tabs: false,
  queueMax: 10,
  timeoutMs: 1000,
  storage: localStorage,
  environment: { random: () => 0.5, now: () => 0, fetch },
});
client.on("state", ({ state, transport, reason }) => console.log(state === "connected", transport, reason?.length));
client.on("transport", ({ transport, session, attempt }) => console.log(transport, session.length, attempt + 1));
client.on("leg", ({ transport, event, reason }) => console.log(transport, event === "lost", reason));
const off: () => void = client.on("error", (error) => {
  if (error instanceof HybridError)
    console.log(
      error.number,
      error.attempts?.map(({ transport, reason }) => transport + reason),
    );
});
off();
client.connect();
await client.moveTo("sse");
await client.moveTo("shared");
console.log(client.transport === "shared", client.limits?.data_max_bytes);
client.cut();

const start: Position = { offset: 0 };
const channel = client.channel("chat:lobby", { position: start, history: 5 });
channel.on("publication", (publication: DeliveredPublication) =>
  console.log(publication.offset, publication.transport),
);
channel.on("reset", ({ position }) => console.log(position.offset));
channel.on("state", ({ state, error }) => console.log(state === "subscribed", error?.number));
channel.on("join", ({ subject }) => console.log(subject));
await channel.subscribe();
const { position, repeated } = await channel.publish({ text: "x" }, { type: "said", key: "k" });
console.log(position.epoch, repeated);
const { publications, head } = await channel.history({ limit: 2, after: position, reverse: true });
console.log(publications[0]?.data, head.offset);
const { entries } = await channel.presence();
console.log(entries[0]?.subject);
const answer = await client.call("add", [1, 2], { key: "k", signal: AbortSignal.timeout(1000) });
console.log(answer === 3, await client.call("ping"));
await client.refresh();
for await (const { offset, transport } of channel) if (offset > 3) console.log(transport);
await channel.unsubscribe();
const stats: Stats = client.stats;
console.log(stats.received, client.transport, client.session, client.state, channel.position?.tag);

// @ts-expect-error there is no such transport
await client.moveTo("pigeon");
// @ts-expect-error it is no transport to ask for
new Client({ url: "/v1", transports: ["shared"] });
// @ts-expect-error a state cannot be set
client.state = "connected";
// @ts-expect-error there is no such event
client.on("message", () => {});
client.disconnect();
