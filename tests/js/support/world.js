/** A clock, a server, a network and clients on it: what most tests begin with. */

import { Client } from "../../../static/hybrid/index.js";
import { FakeClock, seeded } from "./clock.js";
import { Network } from "./network.js";
import { FakeServer } from "./server.js";

export class World {
  constructor({ seed = 1, ...options } = {}) {
    this.random = seeded(seed);
    this.clock = new FakeClock();
    this.server = new FakeServer({ clock: this.clock, random: this.random, ...options });
    this.network = new Network({ clock: this.clock, server: this.server, random: this.random });
  }

  client({ environment, ...options } = {}) {
    const client = new Client({ url: "/v1", ...options, environment: this.network.environment(environment) });
    client.seen = [];
    for (const event of ["state", "transport", "leg", "error"])
      client.on(event, (value) => client.seen.push({ event, value }));
    return client;
  }

  /** A client that is connected. */
  async connected(options) {
    const client = this.client(options);
    client.connect();
    await this.clock.advance(2_000);
    if (client.state !== "connected") throw new Error(`not connected: ${JSON.stringify(client.seen)}`);
    return client;
  }

  advance(ms) {
    return this.clock.advance(ms);
  }

  /** What the promise has come to by the time given: `{value}`, `{error}` or `{}`. */
  async outcome(promise, ms = 1_000) {
    const outcome = {};
    promise.then(
      (value) => (outcome.value = value),
      (error) => (outcome.error = error),
    );
    await this.clock.advance(ms);
    return outcome;
  }
}

/** The channel's publications as its application gets them, and its resets. */
export const record = (channel) => {
  const got = [];
  got.resets = [];
  channel.on("publication", (publication) => got.push(publication));
  channel.on("reset", ({ position }) => got.resets.push(position));
  return got;
};

export const events = (client, event) => client.seen.filter((one) => one.event === event).map(({ value }) => value);
