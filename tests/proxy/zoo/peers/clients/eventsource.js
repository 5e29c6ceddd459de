/** The browser's EventSource, which comes back by itself, and fetch for what goes up. */

window.peer = {
  connect(options, on) {
    const source = new EventSource("/events");
    source.onopen = () => on.transport("sse");
    source.onmessage = ({ data }) => on.message(JSON.parse(data));
  },
  send: (n) => fetch("/up", { method: "POST", body: JSON.stringify({ n }) }).catch(() => {}),
};
