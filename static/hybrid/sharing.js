/**
 * The transport "shared": this client's session over the connection of another tab, or of another client in this one.
 *
 * Only the door is here. What is behind it (tabs/) is loaded when a client that may share connects, where the platform
 * has locks (and with them BroadcastChannel): nobody else pays for it. Where it cannot be loaded each tab has its own
 * connection, as if there were no door.
 */

import { endOf } from "./codes.js";

/** `options`: the client's, for the one that a leader needs besides. */
export const sharing = (client, options) => ({
  client,
  options,
  isWanted: true, // false: the application has chosen another transport
  isSupported: () => true,
  open(context) {
    const pipe = { close: () => (pipe.isClosed = true) };
    import("./tabs/index.js")
      .then(({ open }) => open(this, context, pipe))
      .catch((error) => context.onEnd(endOf(error)));
    return pipe;
  },
});
