/** Wires the page: the token, the examination and what is shown of it. It decides nothing. */

import { Examination } from "./examination.js";
import { PACE } from "./pace.js";
import { report } from "./report.js";
import { ReportView } from "./reportview.js";
import { Row } from "./row.js";
import { TokenSource } from "./token.js";
import { TokenView } from "./tokenview.js";
import { VerdictView } from "./verdictview.js";
import { TRANSPORTS } from "./words.js";

const TICK_MS = 250;

const element = (id) => document.getElementById(id);
const orders = element("orders");
const root = document.documentElement;
const template = element("row");
const rows = Object.fromEntries(TRANSPORTS.map((name) => [name, new Row({ name, template, host: element("rows") })]));
const verdict = new VerdictView(element("verdict"));
const reports = new ReportView(element("report"));
const source = new TokenSource();
const tokens = new TokenView({ root: element("token"), source, onPaste: () => examine() });
let examination = null;

async function examine() {
  examination?.stop();
  root.dataset.phase = "examining";
  verdict.begin();
  for (const row of Object.values(rows)) row.clear();
  const mine = {};
  examination = { stop: () => (mine.isStopped = true) };
  const token = await source.get();
  if (mine.isStopped) return;
  tokens.show(token !== "");
  const idle = Number(orders.elements.idle.value) * 1000;
  const current = new Examination({ url: `${location.origin}/v1`, token, idle, pace: PACE });
  examination = current;
  current.on("trying", (name) => rows[name]?.try());
  current.on("beats", ({ name, beats }) => rows[name].takeBeats(beats));
  current.on("silence", ({ name, idle }) => {
    rows[name].beginSilence(idle);
    root.dataset.phase = "silence";
    verdict.show(current.verdict, { isOver: false });
  });
  current.on("found", (finding) => take(finding));
  current.on("ended", () => conclude(current));
  await current.run();
}

function take(finding) {
  const [name, isIdle] = finding.name.split("-");
  if (name === "server") verdict.takeServer(finding);
  else if (isIdle) rows[name].takeSilence(finding);
  else rows[name].take(finding);
}

function conclude({ findings, verdict: reached }) {
  for (const row of Object.values(rows)) row.end();
  verdict.show(reached, { isOver: true });
  const at = `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const { sentence } = reached;
  reports.show(report({ findings, sentence, server: location.origin, browser: navigator.userAgent, at }));
  root.dataset.phase = "ended";
}

/** A link may say how long: `doctor.html#idle=120`. */
const wanted = /^#idle=(\d+)$/.exec(location.hash)?.[1];
if (orders.querySelector(`option[value="${wanted}"]`)) orders.elements.idle.value = wanted;
for (const part of document.querySelectorAll('[data-part="host"]')) part.textContent = location.host;
orders.addEventListener("submit", (event) => {
  event.preventDefault();
  examine();
});
setInterval(() => Object.values(rows).forEach((row) => row.passTime()), TICK_MS);
await source.discover();
await examine();
