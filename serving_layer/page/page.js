// The page: which part is shown, how often what is asked for, its theme.

import { ask, giveToken, held, Refused } from "/api.js";
import { recolour } from "/charts.js";
import { refreshHandoffs } from "/handoffs.js";
import { refreshLetters, sourcesOfLetters } from "/letters.js";
import { refreshPipeline } from "/pipeline.js";
import { element, spell, spellCount, spellCut, tell } from "/spell.js";
import { offerViews, refreshVerify, startVerify } from "/verify.js";
import { describe, refreshViews, showWaiting } from "/views.js";

const EVERY = 1000, LONGEST = 30000, PARTS = ["views", "pipeline", "hand-offs", "dead-letters", "verify"];
const find = (id) => document.getElementById(id);
const shown = () => (polls.status.refused ? "views" : PARTS.find((part) => location.hash === `#${part}`) || "views");

function showFacts(status) {
  const sum = (counts) => Object.values(counts).reduce((total, one) => total + (typeof one === "object" ? sum(one) : one), 0);
  const records = (cut) => spellCount(Object.values(status.sources).reduce((total, source) => total + source[cut], 0));
  const run = status.last_batch, steps = run ? (run.steps || []).map((step) => `${step.name} ${spell(step.seconds)} s`).join(", ") : "";
  const facts = [
    ["committed", records("committed"), `records; ${spellCut(status.committed)}`],
    ["published", records("published"), `records; ${spellCut(status.published)}`],
    ["lag", status.lag_events === null ? "unknown" : spellCount(status.lag_events), status.kafka.error || "records in Kafka, not committed"],
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
  showWaiting(status.views);
}

function showState(text, kind = "") {
  tell(find("state"), text);
  find("state").className = kind;
}

const REFRESH = {
  pipeline: refreshPipeline,
  "hand-offs": refreshHandoffs,
  "dead-letters": sourcesOfLetters,
  verify: async () => {
    offerViews(await describe());
    await refreshVerify();
  },
};

// Asks again and again, a slow server less often; what one of them cannot have does not keep the other from its.
class Poll {
  constructor(work) {
    Object.assign(this, { work, running: false, again: false, refused: false, problem: "" });
  }

  async look() {
    clearTimeout(this.timer);
    this.again = this.running;
    if (this.running || this.refused) return;
    this.running = true;
    const began = Date.now() - held.milliseconds;
    if (!document.hidden) {
      this.problem = await this.work().then(() => "", (error) => error.message);
      const problems = [...new Set(Object.values(polls).map((poll) => poll.problem).filter(Boolean))].join(" / ");
      find("error").hidden = !problems;
      tell(find("error"), problems);
    }
    this.running = false;
    const took = Date.now() - held.milliseconds - began;
    this.timer = setTimeout(() => this.look(), this.again ? 0 : Math.min(Math.max(EVERY, 3 * took), LONGEST));
  }
}

async function lookAtStatus() {
  const status = await ask("/v1/status").catch((error) => {
    if (error.condition === "FORBIDDEN") return withoutOperations();
    showState("no answer");
    throw error;
  });
  if (!status) return;
  showFacts(status);
  showState(status.ready ? "ready" : "not ready", status.ready ? "good" : "");
  if (shown() !== "views") await REFRESH[shown()](status);
}

async function lookAtViews() {
  if (shown() !== "views") return;
  try {
    await refreshViews();
    if (polls.status.refused) showState("this token sees views alone");
  } catch (error) {
    if (!(error instanceof Refused)) showState("no answer");
    throw error;
  }
}

// Of a role that may read, and not operate: it is shown what it may see, and the rest is not asked for again.
function withoutOperations() {
  polls.status.refused = true;
  for (const part of PARTS.slice(1)) document.querySelector(`nav a[href="#${part}"]`).hidden = true;
  find("facts").hidden = true;
  show();
}

const polls = { status: new Poll(lookAtStatus), views: new Poll(lookAtViews) };

// Of what somebody asked for: what is wrong stands beside it until it goes well.
function told(work, problem) {
  return () => work().then(() => { find(problem).hidden = true; }, (error) => {
    find(problem).hidden = false;
    tell(find(problem), error.message);
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
  if (part === "dead-letters") told(refreshLetters, "letters-problem")();
  for (const poll of Object.values(polls)) poll.look();
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
find("letters-form").addEventListener("submit", (event) => { event.preventDefault(); told(refreshLetters, "letters-problem")(); });
find("verify-form").addEventListener("submit", (event) => { event.preventDefault(); told(startVerify, "verify-problem")(); });
find("other-token").addEventListener("click", () => giveToken("It is kept as long as this tab.").then(() => location.reload(), () => {}));
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => { for (const poll of Object.values(polls)) poll.look(); });
show();
