// Hand-offs as a timeline: the steps of each batch run, and of the one that works now.

import { now } from "/api.js";
import { Chart, patterned } from "/charts.js";
import { spell, spellClock, spellCount, tell } from "/spell.js";

const STEPS = ["seal", "archive", "compute", "publish", "expire"], SHOWN = 10;
let chart = null;

const lastedOf = (running) => Math.max(now() - running.step.started_at, 0);
const secondsOf = (run, name) => (run.steps.find((step) => step.name === name) || {}).seconds || 0;

function runs(status) {
  const { batch } = status.layers, done = batch.recent && batch.recent.length ? batch.recent : status.last_batch ? [status.last_batch] : [];
  const found = done.slice(-SHOWN).map((run) => ({ label: `version ${run.version ?? status.batch_version}\n${run.started_at ? spellClock(run.started_at) : ""}`, run }));
  if (batch.alive && batch.running) {
    const { running } = batch, steps = [...running.steps, { name: running.step.name, seconds: lastedOf(running) }];
    found.push({ label: `now\n${spellClock(running.started_at)}`, run: { ...running, steps } });
  }
  return found.reverse();
}

// What is said of the run, how long its step has lasted, and how much of the time that it took before.
function standing(status) {
  const { batch } = status.layers, last = status.last_batch;
  if (!batch.alive) return ["No batch layer runs.", "", null];
  if (!batch.running) {
    const done = last ? `The last run published version ${last.version}: ${spellCount(last.rows)} events in ${spell(last.seconds)} s, ${last.mode}.` : "No run yet.";
    return [`${batch.error ? `The last run failed: ${batch.error} ` : ""}${done}`, "", null];
  }
  const { step } = batch.running, lasted = lastedOf(batch.running), usual = last ? secondsOf(last, step.name) : 0;
  return [`A batch run works: ${step.name}.`, `${lasted.toFixed(1)} s${usual ? `, the last time ${spell(usual)} s` : ""}`, usual ? Math.min(lasted / usual, 0.99) : null];
}

export function refreshHandoffs(status) {
  const [text, lasted, done] = standing(status), bar = document.getElementById("working");
  tell(document.getElementById("run"), text);
  tell(document.getElementById("run-seconds"), lasted);
  bar.hidden = !(status.layers.batch.alive && status.layers.batch.running);
  if (done === null) bar.removeAttribute("value");
  else bar.value = done;
  const shown = runs(status), place = document.getElementById("timeline");
  chart ??= new Chart(place);
  chart.draw((c) => ({
    tooltip: { renderMode: "richText", confine: true, trigger: "axis", axisPointer: { type: "shadow" }, backgroundColor: c.card, textStyle: { color: c.ink },
      valueFormatter: (value) => `${spell(value)} s` },
    xAxis: { type: "value", name: "s", axisLabel: { color: c.quiet }, splitLine: { lineStyle: { color: c.line } } },
    yAxis: { type: "category", data: shown.map((one) => one.label), inverse: true, axisLabel: { color: c.ink, fontSize: 11, lineHeight: 14 } },
    series: STEPS.map((name, index) => ({
      name, type: "bar", stack: "run", barMaxWidth: 22, data: shown.map((one) => Number(secondsOf(one.run, name).toFixed(3))), itemStyle: { color: patterned(c.several[index], c.card, index) },
    })),
  }));
  place.setAttribute("aria-label", `Batch runs, newest first: ${shown.slice(0, 3).map((one) => `${one.label.replace("\n", " at ")}, ${one.run.steps.map((step) => `${step.name} ${spell(step.seconds)} s`).join(", ")}`).join("; ") || "none yet"}`);
  const generations = status.generations.map((one) => `${one.id}${one.open ? ", open" : ""}: ${spellCount(one.events)} events`).join("; ");
  document.getElementById("generations").textContent = `Generations of the speed layer: ${generations}. Not yet published: ${spellCount(status.unpublished_events)} offsets. Times are UTC.`;
}
