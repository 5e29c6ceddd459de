/**
 * The way down of the event stream where `fetch` cannot stream (React Native, old browsers): the platform's EventSource.
 * It can neither POST nor show a token, so the attach travels ahead, and a ticket for it in the URL: good once, for 30 s.
 */

import { decode } from "../codec.js";
import { post } from "./http.js";

/** Never resolves; rejects when the stream has ended. The signal closes it. */
export const read = async (context, signal) => {
  const body = { purpose: "session", attach: context.attach };
  const response = await post(context, "/ticket", body, "application/json", signal);
  const { ticket } = await response.json();
  signal.throwIfAborted(); // meanwhile: nobody would close what is opened now
  await new Promise((resolve, reject) => {
    const source = new EventSource(`${context.url}/stream?ticket=${encodeURIComponent(ticket)}`);
    const end = (error) => {
      source.close(); // it would come back by itself with a ticket that is used up
      reject(error);
    };
    source.onmessage = ({ data }) => {
      context.onAlive();
      try {
        decode(data).forEach(context.onPush);
      } catch (error) {
        end(error);
      }
    };
    source.onerror = () => end(new Error("the stream ended"));
    signal.addEventListener("abort", () => end(signal.reason));
  });
};
