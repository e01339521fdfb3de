// The page: which part is shown, how often it is asked for, its theme.

import { ask } from "/api.js";
import { recolour } from "/charts.js";
import { refreshHandoffs } from "/handoffs.js";
import { refreshLetters, sourcesOfLetters } from "/letters.js";
import { refreshPipeline } from "/pipeline.js";
import { element, offsets, spell, spellCount, spellCut } from "/spell.js";
import { offerViews, refreshVerify, startVerify } from "/verify.js";
import { describe, forgetViews, refreshViews } from "/views.js";

const EVERY = 1000, PARTS = ["views", "pipeline", "hand-offs", "dead-letters", "verify"];
const find = (id) => document.getElementById(id);

function showFacts(status) {
  const state = find("state"), sum = (counts) => Object.values(counts).reduce((total, one) => total + (typeof one === "object" ? sum(one) : one), 0);
  state.textContent = status.ready ? "ready" : "not ready";
  state.className = status.ready ? "good" : "";
  const run = status.last_batch, steps = run ? (run.steps || []).map((step) => `${step.name} ${spell(step.seconds)} s`).join(", ") : "";
  const facts = [
    ["committed", spellCount(offsets(status.committed)), spellCut(status.committed)],
    ["published", spellCount(offsets(status.published)), spellCut(status.published)],
    ["lag", status.lag_events === null ? "unknown" : spellCount(status.lag_events), status.kafka.error || "events in Kafka, not committed"],
    ["hand-offs", status.batch_version, `generations: ${status.generations.length}`],
    ["last batch run", run ? `${run.mode || "batch"}${run.seconds === undefined ? "" : `, ${spell(run.seconds)} s`}` : "none yet", steps],
    ["dead letters", spellCount(sum(status.dead_letters)), `${spellCount(sum(status.duplicates))} duplicates`],
  ];
  find("facts").replaceChildren(...facts.map(([name, value, note]) => {
    const fact = element("div"), body = element("dd", String(value));
    if (note) body.append(element("small", note));
    fact.append(element("dt", name), body);
    return fact;
  }));
}

const shown = () => PARTS.find((part) => location.hash === `#${part}`) || "views";

// Several parts ask for what they need at once; what one cannot have does not keep the others from theirs.
const REFRESH = {
  views: () => refreshViews(),
  pipeline: (status) => refreshPipeline(status),
  "hand-offs": (status) => refreshHandoffs(status),
  "dead-letters": (status) => sourcesOfLetters(status),
  verify: async () => {
    offerViews(await describe());
    await refreshVerify();
  },
};

let running = false, timer;

async function refresh() {
  if (running) return;
  running = true;
  const began = Date.now(), part = shown();
  clearTimeout(timer);
  const both = async () => {
    const status = await ask("/v1/status");
    showFacts(status);
    if (part !== "views") await REFRESH[part](status);
  };
  const done = document.hidden ? [] : await Promise.allSettled([both(), ...(part === "views" ? [REFRESH.views()] : [])]);
  const failed = [...new Set(done.filter((one) => one.status === "rejected").map((one) => one.reason.message))];
  if (failed.length) forgetViews();
  if (failed.length && failed.length === done.length) Object.assign(find("state"), { textContent: "no answer", className: "" });
  find("error").hidden = !failed.length;
  find("error").textContent = failed.join(" / ");
  running = false;
  timer = setTimeout(refresh, Math.max(EVERY, 3 * (Date.now() - began)));  // a slow server is asked less often
}

function told(work) {
  return () => work().then(() => { find("error").hidden = true; }, (error) => {
    find("error").hidden = false;
    find("error").textContent = error.message;
  });
}

function show() {
  const part = shown();
  for (const name of PARTS) {
    find(name).hidden = name !== part;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === part) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (part === "dead-letters") told(refreshLetters)();
  refresh();
}

function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  localStorage.setItem("tideline-theme", chosen);
  recolour();
}

find("theme").value = localStorage.getItem("tideline-theme") || "";
find("theme").addEventListener("change", (event) => theme(event.target.value));
theme(find("theme").value);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
find("letters-form").addEventListener("submit", (event) => { event.preventDefault(); told(refreshLetters)(); });
find("verify-form").addEventListener("submit", (event) => { event.preventDefault(); told(startVerify)(); });
addEventListener("hashchange", show);
show();
