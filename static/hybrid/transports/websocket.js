/** Frames both ways (RFC 6455). A browser cannot set a header here, so the token is the first frame. */

import { endOf } from "../codes.js";

const isSupported = ({ WebSocket }) => WebSocket;

const open = (context) => {
  const { codec } = context;
  let socket;
  let isClosed = false;

  const write = (command) => {
    if (socket?.readyState === 1) socket.send(codec.encode(command));
  };

  const start = async () => {
    const token = await context.tokens.get();
    if (isClosed) return;
    socket = new context.environment.WebSocket(context.url.replace(/^http/, "ws") + "/stream", [codec.subprotocol]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (token) write({ method: "auth", token });
      write(context.attach);
    };
    socket.onmessage = ({ data }) => {
      context.onAlive();
      try {
        codec.decode(data).forEach(context.onPush);
      } catch (error) {
        context.onEnd(endOf(error));
      }
    };
    socket.onclose = ({ code, reason }) => context.onEnd({ code, reason: reason || `closed with ${code}` });
  };

  start().catch((error) => context.onEnd(endOf(error)));

  return {
    beats: true,
    send(commands) {
      for (const command of commands)
        write(command.method === "refresh" ? { ...command, token: context.tokens.value } : command);
    },
    confirm: write,
    ask: write,
    close(isGoodbye) {
      isClosed = true;
      // 1000 tells the server that nobody will come back for the session.
      if (isGoodbye) socket?.close(1000);
      else socket?.close();
    },
  };
};

export const websocket = { isSupported, open };
