/**
 * What every server of the peers does beside its own trade: a number every 50 ms, and a second port on which the runner
 * asks what came up. That port is not behind the proxy.
 */

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

const EVERY_MS = 50;

/** One life of a server; its numbers rise by one from 1. */
export const life = randomUUID().slice(0, 8);

/** Calls `send({ life, n })` at the pace of the feed, one after the other. What it refused is sent again. */
export function feed(send) {
  const startedMs = Date.now();
  let n = 1;
  let due = 1;
  const pace = async () => {
    // A timer that comes late makes up for it, or a busy machine would be measured at another pace.
    for (; due <= (Date.now() - startedMs) / EVERY_MS; due++) {
      try {
        await send({ life, n });
        n++;
      } catch {
        // The server behind it is being restarted.
      }
    }
    setTimeout(pace, EVERY_MS);
  };
  pace();
}

/** Answers the runner on `port` with the JSON of the numbers that came up, in the order in which they came. */
export function control(port, ups) {
  createServer(async (request, response) => response.end(JSON.stringify(await ups()))).listen(port, "127.0.0.1");
}

/** A page to start from, and nothing else. */
export function page(request, response) {
  response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>zoo</title>");
}
