// `verify` as a button: views recomputed from the log, and compared.

import { ask } from "/api.js";
import { element, spell, spellCount, table } from "/spell.js";

const find = (id) => document.getElementById(id);

export function offerViews(views) {
  const select = find("verify-view");
  if (select.options.length - 1 === views.length) return;
  select.replaceChildren(new Option("all views", ""), ...views.map((view) => new Option(view.name, view.name)));
}

function show(state) {
  const verdict = find("verdict"), { report } = state;
  find("verify-start").disabled = state.running;
  verdict.className = "";
  if (state.running) verdict.textContent = `Reading the log back and computing ${state.views ? state.views.join(", ") : "all views"} anew: ${state.seconds} s.`;
  else if (state.error) Object.assign(verdict, { textContent: `There is no verdict: ${state.error}`, className: "bad" });
  else if (!report) verdict.textContent = "Not asked yet.";
  else {
    verdict.textContent = report.equal
      ? `Equal: all ${spellCount(report.keys)} keys of ${report.views.length} views equal a recompute from the log, in ${spell(report.seconds)} s.`
      : "Not equal: what is served is not what the log says.";
    verdict.className = report.equal ? "good" : "bad";
  }
  const rows = report ? report.views.map((view) => [view.view, view.equal ? "equal" : "differs", view.keys, view.values, view.differences, `${spell(view.seconds)} s`]) : [];
  find("verified").replaceChildren(...(report ? [table(["view", "verdict", "keys", "values", "differences", "took"], rows)] : []));
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
