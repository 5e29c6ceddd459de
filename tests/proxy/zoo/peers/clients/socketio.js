/** Socket.IO's client: what is sent is retried until it is acknowledged, as its page on delivery guarantees has it. */

{
  let socket;

  window.peer = {
    connect(options, on) {
      socket = window.io({ ackTimeout: 10_000, retries: 3, ...options });
      socket.on("feed", on.message);
      socket.on("connect", () => {
        const { engine } = socket.io;
        on.transport(engine.transport.name);
        engine.on("upgrade", (transport) => on.transport(transport.name));
      });
    },
    send: (n) => socket.emit("up", n),
  };
}
