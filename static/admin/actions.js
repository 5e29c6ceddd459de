/** What an operator can do to others, each behind a dialog that says what it will do, and then what came of it. */

import { make } from "./dom.js";
import { disconnected, drained, many, purged, revoked, whom } from "./words.js";

const PATIENCE_S_MAX = 3_600;

export class Actions {
  #api;
  #dialog;
  #done;

  /** `done` is called after each, whatever came of it: what is on show may have changed. */
  constructor({ api, dialog, done }) {
    this.#api = api;
    this.#dialog = dialog;
    this.#done = done;
  }

  /** @param {{subject?: string, client?: string, session?: string} | null} target null: asked for */
  disconnect(target = null) {
    this.#open({
      title: "Disconnect",
      says: [
        target
          ? `Ends ${whom(target)}, on every transport and at every node.`
          : "Ends everything that is open of a subject or a client, or one session, on every transport and at every node.",
        "This does not keep anybody out: whose token is good can come again. To keep somebody out, revoke.",
      ],
      fields: [
        ...(target ? [] : naming({ subject: "Subject", client: "Client", session: "Session" })),
        field("Reason, told to them", make("input", { name: "reason", maxlength: 120, placeholder: "Your plan has changed." })),
        choice("reconnect", "They come back by themselves, and go on where they were", true),
        field("Earliest after, in seconds", make("input", { name: "delay_s", type: "number", min: 0, max: PATIENCE_S_MAX, step: "any", value: 0, inputmode: "decimal" })),
      ],
      verb: "Disconnect",
      isDanger: true,
      act: async (values, key) => {
        const named = target ?? named_in(values);
        const reconnect = values.has("reconnect");
        const body = { ...named, reason: values.get("reason"), reconnect, delay_s: reconnect ? Number(values.get("delay_s")) : 0 };
        return disconnected(await this.#api.post("v1/disconnect", body, { key }));
      },
    });
  }

  /** @param {{subject?: string, client?: string, jti?: string, sid?: string} | null} target null: asked for */
  revoke(target = null) {
    this.#open({
      title: "Revoke",
      says: [
        target
          ? `Refuses every token issued until now that is ${"client" in target ? `the client ${target.client}’s` : `of the subject ${target.subject}`}, and ends what they hold open, at every node.`
          : "Refuses tokens issued until now, and ends what they hold open, at every node. It concerns tokens of your own issuer.",
        "Who signs in again gets a newer token and can come back, unless the issuer says no: revoke it there first. This cannot be taken back.",
      ],
      fields: target ? [] : naming({ subject: "Subject", client: "Client", sid: "Sign-in (sid), for good", jti: "Token (jti), for good" }),
      verb: "Revoke",
      isDanger: true,
      act: async (values) => revoked(await this.#api.post("v1/revoke", target ?? named_in(values))),
    });
  }

  purge(channel) {
    this.#open({
      title: "Empty the history",
      says: [
        `Removes everything that was published to ${channel} until now, for everybody. It cannot be brought back.`,
        "Whoever reads the channel stays, is told of it, and goes on with what is published next.",
      ],
      verb: "Empty the history",
      isDanger: true,
      act: async (_, key) => purged(await this.#api.post("v1/purge", { channel }, { key })),
    });
  }

  drain({ node, streams }) {
    this.#open({
      title: "Drain a node",
      says: [
        `The node ${node} takes nobody in any more, and sends its ${many(streams, "connection")} to the other nodes, at the pace that these can take them.`,
        "It stays so until it is restarted.",
      ],
      verb: "Drain",
      isDanger: true,
      act: async (_, key) => drained(await this.#api.post("v1/drain", { node }, { key })),
    });
  }

  #open({ act, ...rest }) {
    this.#dialog.open({ ...rest, act: (values, key) => act(values, key).finally(() => this.#done()) });
  }
}

function naming(kinds) {
  const options = Object.entries(kinds).map(([value, label]) => make("option", { value }, label));
  return [
    field("Of which", make("select", { name: "kind" }, ...options)),
    field("Its name", make("input", { name: "name", required: true, maxlength: 255, spellcheck: "false", autocapitalize: "off" })),
  ];
}

function named_in(values) {
  return { [values.get("kind")]: values.get("name") };
}

function field(title, input) {
  return make("label.field", {}, make("span", {}, title), input);
}

function choice(name, title, isOn) {
  return make("label.field.is-choice", {}, make("input", { type: "checkbox", name, checked: isOn }), make("span", {}, title));
}
