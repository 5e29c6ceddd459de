// @microsoft/fetch-event-source, which was made for pages: it wants a `window` and a `document`.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
// Its package says nothing of modules, so Node takes them for CommonJS.
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

await fetchEventSource(process.env.URL, {
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
  onmessage({ event, data, id }) {
    if (data) console.log(JSON.stringify([event || "message", data, id])); // it gives comments and bare ids, too
  },
  onclose() {
    throw new Error("come back"); // otherwise an end by the server is the end
  },
});
