/**
 * Commands of the two one-way transports: POSTs, one in flight, in order.
 * Calls go beside them: they may take long, and nothing waits behind one. A POST that fails ends the leg; what was in it is sent again on the next one, by the rules for commands.
 */

import { encode } from "../codec.js";
import { OUT_OF_ORDER, SESSION_UNKNOWN, UNAUTHORIZED, endOf } from "../codes.js";
import { post } from "./http.js";

const BATCH_COMMANDS = 64;
const BATCH_CHARACTERS = 200_000; // at most 600 KB as UTF-8: below the server's 1 MB for a body
const POST_TIMEOUT_MS = 10_000; // the server answers within 2 s; a proxy that swallows POSTs is no slow server
const CALL_TIMEOUT_MS = 30_000; // a call's handler may take 20 s

/**
 * `rules`, if any: `prepare(command)`: the command as it goes out, asked at the last moment; `isAlone(command)`: it goes
 * in a POST of its own; `onIdle()`: all is answered.
 */
export const openUplink = (context, rules) => {
  const { environment } = context;
  const queue = [];
  const aborters = new Set();
  let isBusy = false;

  const take = () => {
    const batch = [];
    let size = 0;
    while (queue.length && batch.length < BATCH_COMMANDS && size < BATCH_CHARACTERS) {
      if (batch.length && rules?.isAlone(queue[0])) break;
      const command = queue.shift();
      batch.push(rules?.prepare(command) ?? command);
      size += encode(batch.at(-1)).length;
      if (rules?.isAlone(command)) break;
    }
    return batch;
  };

  const exchange = async (commands, timeoutMs) => {
    const aborter = new AbortController();
    aborters.add(aborter);
    const timer = environment.setTimeout(() => aborter.abort(new Error("no answer")), timeoutMs);
    try {
      const body = { session: context.session(), last_seq: context.lastSeq(), commands };
      const response = await post(context, "/command", body, "application/json", aborter.signal);
      return (await response.json()).replies;
    } catch (error) {
      const isAnswer = error.number >= 3000 && error.number < 4000;
      if (!isAnswer || [UNAUTHORIZED, SESSION_UNKNOWN, OUT_OF_ORDER].includes(error.number)) throw error;
      return commands.map(({ id }) => ({ id, error: error.problem }));
    } finally {
      environment.clearTimeout(timer);
      aborters.delete(aborter);
    }
  };

  /** That a POST is answered says nothing of the way down. */
  const deliver = (replies) => {
    for (const reply of replies) context.onPush({ reply: reply.reply ?? reply });
  };

  const failed = (error) => context.onEnd({ ...endOf(error), isOwn: true });

  const pump = async () => {
    isBusy = true;
    try {
      while (queue.length) deliver(await exchange(take(), POST_TIMEOUT_MS));
      isBusy = false;
      rules?.onIdle();
    } catch (error) {
      failed(error);
    }
  };

  const call = (command) => exchange([command], CALL_TIMEOUT_MS).then(deliver, failed);

  return {
    send(commands) {
      for (const command of commands) {
        if (command.method === "call" || command.echo) call(command);
        else queue.push(command);
      }
      if (queue.length && !isBusy) pump();
    },
    close() {
      queue.length = 0;
      for (const aborter of aborters) aborter.abort();
    },
  };
};
