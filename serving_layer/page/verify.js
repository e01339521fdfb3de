// `verify` as a button: views recomputed from the log, and compared.

import { ask } from "/api.js";
import { element, offer, spell, spellClock, spellCount, table, tell } from "/spell.js";

const find = (id) => document.getElementById(id);
const NUMBERS = { keys: "number", values: "number", differences: "number", took: "number" };

export function offerViews(views) {
  offer(find("verify-view"), "all views", views.map((view) => view.name));
}

function said({ running, views, started_at, error, report }) {
  if (running) return `Reading the log back and computing ${views ? views.join(", ") : "all views"} anew.`;
  if (error) return `There is no verdict: ${error}`;
  if (!report) return "Not asked yet.";
  return report.equal
    ? `Equal: all ${spellCount(report.keys)} keys of ${report.views.length} views equal a recompute from the log, in ${spell(report.seconds)} s, as of ${spellClock(started_at)} UTC.`
    : `Not equal, as of ${spellClock(started_at)} UTC: what is served is not what the log says.`;
}

function show(state) {
  const verdict = find("verdict"), { report } = state;
  find("verify-start").disabled = state.running;
  tell(verdict, said(state));
  verdict.className = state.running || !(report || state.error) ? "" : report && report.equal ? "good" : "bad";
  tell(find("verify-seconds"), state.running ? `${state.seconds} s` : "");
  const rows = report ? report.views.map((view) => [view.view, view.equal ? "equal" : "differs", view.keys, view.values, view.differences, `${spell(view.seconds)} s`]) : [];
  find("verified").replaceChildren(...(report ? [table(["view", "verdict", "keys", "values", "differences", "took"], rows, NUMBERS)] : []));
  const wrong = report ? report.views.flatMap((view) => view.first.map((one) => `${view.view} ${JSON.stringify(one.key)} ${one.bucket || ""} ${one.measure}: expected ${spell(one.expected)}, found ${spell(one.found)}`)) : [];
  const faults = report ? report.logs.flatMap((log) => log.faults) : [];
  find("verify-wrong").replaceChildren(...[...wrong, ...faults].map((text) => element("li", text)));
}

export async function refreshVerify() {
  show(await ask("/v1/verify"));
}

export async function startVerify() {
  const view = find("verify-view").value;
  show(await ask("/v1/verify", { views: view ? [view] : [] }));
}
