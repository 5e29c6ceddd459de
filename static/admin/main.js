/** Wires the page: the way in, the feed of figures, and the parts. It decides nothing. */

import { steadyNow } from "../demo/clock.js";
import { followScheme } from "../demo/palette.js";
import { setText } from "../demo/text.js";
import { Actions } from "./actions.js";
import { Api } from "./api.js";
import { Channels } from "./channels.js";
import { Dialog } from "./dialog.js";
import { partsOf } from "./dom.js";
import { Feed } from "./feed.js";
import { Gate } from "./gate.js";
import { Nodes } from "./nodes.js";
import { Overview, SPAN_MS } from "./overview.js";
import { Publish } from "./publish.js";
import { Rates } from "./rates.js";
import { Sessions } from "./sessions.js";
import { Tabs } from "./tabs.js";

const PAINT_MS = 500;
const DESCRIBE_MS = 15_000;
const PULSE = { waiting: "Connecting…", live: "Live", offline: "Offline", refused: "Stopped" };

const element = (id) => document.getElementById(id);

/** The newest credentials; another sign-in replaces them, and the page goes on. */
const held = { credentials: null };
let feed = null;

function start() {
  followScheme();
  const api = new Api({ base: new URL("./", location.href), credentials: { tokenAfter: (last) => held.credentials.tokenAfter(last) } });
  const dialog = new Dialog(element("dialog"));
  const rates = new Rates({ span_ms: SPAN_MS });
  const actions = new Actions({ api, dialog, done: () => parts[tabs.current].refresh() });
  const goTo = (name, filters) => {
    tabs.go(name);
    parts[name].filter(filters);
  };
  const parts = {
    overview: new Overview({ root: element("overview"), rates }),
    nodes: new Nodes({ root: element("nodes").querySelector("[data-part=list]"), api, rates, actions }),
    channels: new Channels({ root: element("channels"), api, dialog, actions, goTo }),
    sessions: new Sessions({ root: element("sessions"), api, dialog, actions }),
    publish: new Publish({ root: element("publish"), api, dialog }),
  };
  const tabs = new Tabs({
    nav: element("tabs"),
    views: Object.keys(parts).map(element),
    shown: (name) => Object.entries(parts).forEach(([other, part]) => part.shown(other === name)),
  });

  feed = new Feed({
    ask: () => api.get("v1/info/stats"),
    take: (answer) => {
      rates.add(answer, steadyNow());
      parts.overview.take(answer);
      document.documentElement.dataset.ready = "true";
    },
    changed: (error) => {
      pulse();
      if (feed.state === "refused") gate.refused(error);
      if (feed.state === "live") parts[tabs.current].refresh();
    },
  });
  document.addEventListener("visibilitychange", () => {
    feed.hidden(document.hidden);
    if (!document.hidden) parts[tabs.current].refresh();
  });
  addEventListener("online", () => feed.wake());
  setInterval(() => {
    pulse();
    if (!document.hidden) parts.overview.paint(steadyNow());
  }, PAINT_MS);
  setInterval(() => parts.overview.describe(), DESCRIBE_MS);
  tabs.show();
  feed.hidden(document.hidden);
  feed.start();
}

function pulse() {
  const wait_s = feed.state === "offline" && feed.again_ms !== null ? Math.ceil((feed.again_ms - Date.now()) / 1000) : 0;
  element("pulse").dataset.state = feed.state;
  setText(partsOf(element("pulse"))("words"), PULSE[feed.state]);
  setText(partsOf(element("pulse"))("wait"), wait_s > 0 ? `again in ${wait_s} s` : "");
}

setText(element("host"), location.host);
const gate = new Gate({
  root: element("gate"),
  ended: element("ended"),
  bar: element("account"),
  enter: (credentials) => {
    held.credentials = credentials;
    if (feed) feed.start();
    else start();
  },
});
gate.arrive();
