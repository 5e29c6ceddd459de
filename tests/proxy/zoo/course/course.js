/**
 * What the zoo has the client do, in a page and in Node alike. It acts when a driver says so, keeps what it saw with
 * the time of it, and judges nothing: that is the runner's affair. Times are milliseconds of the system's clock.
 */

const TRACE_MAX = 5_000;

const fresh = () => ({ starts: [], got: [], resets: [], published: [], trace: [] });

export class Course {
  #Client;
  #environment;
  #client;
  #seen = fresh();
  #pacer;
  #made = 0;

  /** `environment`: what is replaced of the client's, nothing in a browser. */
  constructor(Client, environment = {}) {
    this.#Client = Client;
    this.#environment = environment;
  }

  /** A client is made and connected. Resolves with the first publication: {ms since connect(), transport}. */
  first({ url, token, channel: name }) {
    const client = (this.#client = new this.#Client({
      url,
      getToken: () => token,
      name: "zoo",
      environment: this.#environment,
    }));
    const channel = client.channel(name);
    this.#watch(client, channel);
    channel.subscribe().catch((error) => this.#note("subscribe", error.message));
    const startedMs = performance.now();
    const first = new Promise((resolve) => {
      const off = channel.on("publication", ({ transport }) => {
        off();
        resolve({ ms: performance.now() - startedMs, transport });
      });
    });
    client.connect();
    return first;
  }

  /** Publishes `{id: prefix + n, sentMs}` at this pace, `count` times or until `hush()`, and waits for no answer. */
  publish({ channel, prefix, everyMs, count = Infinity }) {
    this.hush();
    const startedMs = Date.now();
    let done = 0;
    const pace = () => {
      // A timer that comes late makes up for it, or a slow machine would be measured at another pace.
      for (; done < count && Date.now() - startedMs >= done * everyMs; done++) this.#publish(channel, prefix);
      if (done === count) this.hush();
    };
    this.#pacer = setInterval(pace, everyMs);
    pace();
  }

  hush() {
    clearInterval(this.#pacer);
  }

  /** What was seen since the last time it was asked, and how things stand. */
  take() {
    const seen = this.#seen;
    this.#seen = fresh();
    const { state, transport, stats } = this.#client ?? {};
    return { ...seen, state, transport, stats: { ...stats } };
  }

  #publish(channel, prefix) {
    const id = `${prefix}${this.#made++}`;
    const data = { id, sentMs: Date.now() };
    this.#seen.published.push({ id, data, event: "asked", atMs: data.sentMs });
    const answered = (outcome) => this.#seen.published.push({ id, atMs: Date.now(), ...outcome });
    this.#client.publish(channel, data).then(
      ({ position }) => answered({ event: "answered", position }),
      (error) => answered({ event: "refused", reason: error.message }),
    );
  }

  #watch(client, channel) {
    channel.on("state", ({ state, error }) => {
      if (state === "subscribed") this.#seen.starts.push(channel.position);
      this.#note("channel", state, error?.message);
    });
    channel.on("publication", ({ offset, epoch, tag, data, transport }) =>
      this.#seen.got.push({ position: { offset, epoch, tag }, data, transport, atMs: Date.now() }),
    );
    channel.on("reset", ({ position }) => this.#seen.resets.push({ position, after: this.#seen.got.length }));
    client.on("state", ({ state, reason }) => this.#note("state", state, reason));
    client.on("transport", ({ transport }) => this.#note("transport", transport));
    client.on("error", (error) => this.#note("error", error.message));
    client.on("leg", ({ transport, event, reason }) => this.#note("leg", transport, event, reason));
  }

  #note(what, ...details) {
    if (this.#seen.trace.length < TRACE_MAX) this.#seen.trace.push([Date.now(), what, ...details]);
  }
}
