/** Centrifugo's client. `transports` are those behind WebSocket in its list. */

{
  let client;

  window.peer = {
    connect({ transports }, on) {
      const webSocket = `${location.origin.replace(/^http/, "ws")}/connection/websocket`;
      const others = transports.map((transport) => ({
        transport,
        endpoint: `${location.origin}/connection/${transport}`,
      }));
      const endpoints = others.length ? [{ transport: "websocket", endpoint: webSocket }, ...others] : webSocket;
      client = new window.Centrifuge(endpoints);
      client.on("connected", ({ transport }) => on.transport(transport));
      const feed = client.newSubscription("feed");
      feed.on("publication", ({ data }) => on.message(data));
      feed.subscribe();
      client.connect();
    },
    // Whoever wants to know whether it arrived awaits the promise; here the server is asked.
    send: (n) => client.publish("up", { n }).catch(() => {}),
  };
}
