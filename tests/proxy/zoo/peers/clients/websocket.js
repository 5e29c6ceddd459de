/** A bare WebSocket with the reconnect of a thousand tutorials: a second after it closed, for ever. */

{
  let socket;

  const open = (on) => {
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/socket`);
    socket.onopen = () => on.transport("websocket");
    socket.onmessage = ({ data }) => on.message(JSON.parse(data));
    socket.onclose = () => setTimeout(open, 1_000, on);
  };

  window.peer = {
    connect: (options, on) => open(on),
    send: (n) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ n }));
    },
  };
}
