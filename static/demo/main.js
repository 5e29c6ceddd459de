/** Wires the page: the sign-in, four sessions, their panes, the machine, the chat and the switches. It decides nothing. */

import { Client } from "../hybrid/index.js";
import { Account, wasHandedBack } from "./account.js";
import { Chat } from "./chat.js";
import { ServerClock, keepAsking, steadyNow } from "./clock.js";
import { Machine } from "./machine.js";
import { followScheme } from "./palette.js";
import { paintRegularly } from "./painter.js";
import { Pane } from "./pane.js";
import { PaneView } from "./paneview.js";
import { SignIn } from "./signin.js";
import { Storm } from "./storm.js";
import { Summary } from "./summary.js";
import { tokenProvider } from "./token.js";
import { TRANSPORTS, transportName } from "./transports.js";

const REFRESH_MS = 250;
const DESCRIBE_MS = 15_000;
const CHAT = "demo:chat";
const SCOPE = `hybrid:subscribe:demo:* hybrid:publish:${CHAT}`;
const CHANNELS = new Map([
  ["demo:cpu", "cpu"],
  ["demo:memory", "memory"],
  ["demo:network", "network"],
  [CHAT, "chat"],
]);
/** The page's minute of charts and the last words said; panes that only count need no past. */
const PAST = { "demo:cpu": 300, "demo:memory": 300, "demo:network": 120, [CHAT]: 50 };

/** A pane that is told its transport must not learn another from what worked elsewhere on this page. */
const FORGETFUL = { getItem: () => null, setItem() {} };

function networkReturned() {
  window.dispatchEvent(new Event("online"));
}

function makePane(id, title, transports, clock, signIn) {
  const getToken = tokenProvider(signIn);
  const client = new Client({ url: "/v1", getToken, transports, storage: FORGETFUL, tabs: false });
  return new Pane({ id, title, client, clock, now: steadyNow, networkReturned });
}

async function arrive() {
  if (wasHandedBack()) return;
  const element = (id) => document.getElementById(id);
  const returnsTo = `${location.origin}/`;
  const signIn = new SignIn({ path: "/dev-issuer", clientId: "demo", scope: SCOPE, returnsTo });
  const parts = { gate: element("gate"), ended: element("ended"), bar: element("account") };
  const account = new Account({ signIn, ...parts, networkReturned });
  if (await account.arrive()) start(signIn);
}

function start(signIn) {
  followScheme();
  const clock = new ServerClock();
  keepAsking(clock, "/demo/clock");
  const fixed = TRANSPORTS.map((transport) => makePane(transport, transportName(transport), [transport], clock, signIn));
  const automatic = makePane("automatic", "Automatic", [...TRANSPORTS], clock, signIn);
  const panes = [...fixed, automatic];

  const template = document.getElementById("pane");
  const host = document.getElementById("panes");
  const views = panes.map((pane) => new PaneView({ pane, template, host, channels: [...CHANNELS] }));
  const machine = new Machine({
    root: document.getElementById("machine"),
    clock,
    channels: { "demo:cpu": "cpu", "demo:memory": "memory", "demo:network": "network" },
  });
  const chat = new Chat({
    root: document.getElementById("chat"),
    channel: CHAT,
    publish: (data) => automatic.publish(CHAT, data),
    panes,
    name: signIn.subject ?? "Somebody",
  });
  const summary = new Summary({
    root: document.getElementById("summary"),
    alarm: document.getElementById("alarm"),
    panes,
  });
  automatic.on("publication", (publication) => machine.take(publication));
  for (const pane of panes) {
    pane.on("publication", (publication) => chat.take(pane, publication, pane === automatic));
  }

  const storm = new Storm({ panes, transports: TRANSPORTS });
  document.getElementById("cut-all").addEventListener("click", () => panes.forEach((pane) => pane.cut()));
  const stormSwitch = document.getElementById("storm");
  stormSwitch.checked = false;
  stormSwitch.addEventListener("change", () => (stormSwitch.checked ? storm.start() : storm.stop()));

  const refresh = () => {
    const now_ms = steadyNow();
    for (const view of views) view.refresh(now_ms);
    machine.refresh();
    summary.refresh();
  };
  const describe = () => {
    const now_ms = steadyNow();
    for (const view of views) view.describe(now_ms);
    machine.describe();
  };
  refresh();
  setInterval(refresh, REFRESH_MS);
  setInterval(describe, DESCRIBE_MS);
  paintRegularly(() => {
    const now_ms = steadyNow();
    for (const view of views) view.paint(now_ms);
    machine.paint(now_ms);
  });

  for (const pane of panes) {
    const isReader = pane === automatic;
    const options = [...CHANNELS.keys()].map((name) => [name, isReader ? { history: PAST[name] } : { history: 1 }]);
    pane.open(Object.fromEntries(options));
  }
  document.documentElement.dataset.ready = "true";
}

arrive();
