/**
 * One examination from beginning to end: the server, the transports side by side, then the silence. What it finds is
 * told as it comes: "trying", "beats", "found", "silence" and "ended". It knows nothing of the page.
 */

import { Emitter } from "../demo/emitter.js";
import { EventStreamLine, WebSocketLine } from "./lines.js";
import { Told, heard } from "./outcome.js";
import { Polling } from "./polling.js";
import { holdLines, holdPoll } from "./silence.js";
import { tryLine, tryPolling, tryServer } from "./tries.js";
import { conclude } from "./verdict.js";
import { TRANSPORTS } from "./words.js";

const CONNECTIONS = { websocket: WebSocketLine, sse: EventStreamLine, longpoll: Polling };

export class Examination extends Emitter {
  /** @type {import("./verdict.js").Finding[]} what is known so far */
  findings = [];
  #options;
  #idle;
  #open = new Set();
  #isStopped = false;

  /** `url`: of the server's `/v1`; `token`: "" without one; `idle`: milliseconds of silence, 0 leaves it out. */
  constructor({ url, token, idle, pace }) {
    super();
    this.#options = { url, token, pace };
    this.#idle = idle;
  }

  get verdict() {
    return conclude(this.findings);
  }

  /** Never rejects for what a network does. */
  async run() {
    this.#tell("trying", "server");
    const server = await tryServer(this.#options);
    this.#note(server);
    if (server.works) {
      await Promise.all(TRANSPORTS.map((name) => this.#try(name)));
      const able = TRANSPORTS.filter((name) => this.#finding(name)?.works && !this.#finding(name).isOnlyHeard);
      if (this.#idle && !this.#isStopped) await Promise.all(able.map((name) => this.#hold(name)));
    }
    this.#tell("ended");
  }

  /** Let go of everything; nothing more is told. */
  stop() {
    this.#isStopped = true;
    for (const connection of this.#open) connection.close();
  }

  async #try(name) {
    this.#tell("trying", name);
    const onBeats = (beats) => this.#tell("beats", { name, beats });
    await this.#with(name, async (connection) => {
      const attempt = name === "longpoll" ? tryPolling : tryLine;
      try {
        this.#note(this.#explained(await attempt(connection, { ...this.#options, onBeats })));
      } catch (error) {
        if (!(error instanceof Told)) throw error;
        this.#note(heard(name, error));
      }
    });
  }

  async #hold(name) {
    const onBegin = () => this.#tell("silence", { name, idle: this.#idle });
    const options = { ...this.#options, idle: this.#idle, onBegin };
    const hold = name === "longpoll" ? holdPoll : this.#holdBoth.bind(this, name);
    await this.#with(name, async (connection) => this.#note(await hold(connection, options)));
  }

  async #holdBoth(name, silent, options) {
    let finding;
    const { heartbeatS } = options.pace;
    await this.#with(name, async (beating) => (finding = await holdLines(silent, beating, options)), { heartbeatS });
    return finding;
  }

  async #with(name, use, more = {}) {
    const connection = new CONNECTIONS[name]({ ...this.#options, ...more });
    this.#open.add(connection);
    try {
      await use(connection);
    } finally {
      connection.close();
      this.#open.delete(connection);
    }
  }

  /** Of a handshake that failed a page is told nothing; what other answers passed through is the best hint there is. */
  #explained(finding) {
    const hints = this.#finding("server").facts.slice(1);
    if (finding.works || finding.name !== "websocket" || !hints.length) return finding;
    return { ...finding, facts: [...finding.facts, `other answers came through ${hints.join(", ")}`] };
  }

  #finding(name) {
    return this.findings.find((finding) => finding.name === name);
  }

  #note(finding) {
    if (this.#isStopped) return;
    this.findings.push(finding);
    this.#tell("found", finding);
  }

  #tell(event, value) {
    if (!this.#isStopped) this.emit(event, value);
  }
}
