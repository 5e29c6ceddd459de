/** Several tabs over one connection; loaded by ../sharing.js when it is needed. */

import { Tabs } from "./tabs.js";

/** Opens a leg of the client that `sharing` belongs to, in place of `pipe`, which may be closed already. */
export const open = (sharing, context, pipe) => {
  if (pipe.isClosed) return;
  const { send, confirm, close } = (sharing.tabs ??= new Tabs(sharing)).open(context);
  Object.assign(pipe, { send, confirm, close });
};
