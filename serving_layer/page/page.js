"use strict";
// Reads the HTTP API once a second: all views in one query, so that what stands side by side is one snapshot.

const ROWS = 12, EVERY = 1000, VIEWS_EVERY = 10000;
const find = (id) => document.getElementById(id);
const sections = new Map();
let described = [];
let describedAt = 0;

// Whole numbers that a double cannot hold stay text.
function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && context && Number.isInteger(value) && !Number.isSafeInteger(value) ? context.source : value);
}

async function ask(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(15000) });
  const answer = parse(await response.text());
  if (answer.error) throw new Error([answer.error.message, answer.error.hint].filter(Boolean).join(". "));
  return answer;
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function spell(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((item) => (Array.isArray(item) ? `${item[0]} ${spell(item[1])}` : spell(item))).join(", ") || "–";
  if (typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${spell(inner)}`).join(", ") || "–";
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(6).replace(/\.?0+$/, "");
  return String(value);
}

const isNumber = (value) => typeof value === "number" || (typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value));
const spellTime = (text) => (text ? text.replace("T", " ").replace(/(:00)?Z$/, "") : "all time");
const ordered = (view) => Object.entries(view.measures).filter(([, measure]) => measure.type !== "structured").map(([name]) => name);

function section(view) {
  const made = find("view").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = view.name;
  const measure = made.querySelector(".measure"), rows = made.querySelector(".rows");
  for (const name of [...Object.keys(view.measures), ...Object.keys(view.answers)]) measure.append(new Option(name, name));
  const top = ordered(view)[0];
  if (view.bucket) rows.append(new Option(`newest ${view.bucket}`, "-bucket" + (top ? `,-${top}` : "")));
  if (top) rows.append(new Option(`most ${top}`, `-${top}`));
  if (!rows.options.length) rows.append(new Option("by key", ""));
  made.querySelector(".scroll").setAttribute("aria-label", `${view.name}, scrolls sideways`);
  for (const select of [measure, rows]) select.addEventListener("change", refresh);
  return { made, measure, rows, last: new Map(), oldest: null, fingerprint: view.fingerprint };
}

function layOut(views) {
  described = views;
  for (const [name, old] of sections) {
    const view = views.find((candidate) => candidate.name === name);
    if (!view || view.fingerprint !== old.fingerprint) { old.made.remove(); sections.delete(name); }
  }
  for (const view of views) {
    if (!sections.has(view.name)) {
      sections.set(view.name, section(view));
      find("views").append(sections.get(view.name).made);
    }
  }
}

function show(view, result) {
  const { made, measure, rows, last } = sections.get(view.name);
  const name = measure.value, keys = view.key.map((column) => column.name);
  const times = view.bucket ? ["bucket"] : [];
  const head = element("tr");
  for (const column of [...keys, ...times]) head.append(element("th", column));
  for (const side of ["batch", "speed", "merged"]) head.append(element("th", side, `value ${side}`));
  made.querySelector("thead").replaceChildren(head);
  const seen = new Map();
  made.querySelector("tbody").replaceChildren(...result.rows.map((row) => {
    const line = element("tr");
    for (const key of keys) line.append(element("td", row[key] === null ? "null" : spell(row[key])));
    for (const time of times) line.append(element("td", spellTime(row[time]), "time"));
    const sides = { batch: row.parts.batch && row.parts.batch[name], speed: row.parts.speed && row.parts.speed[name], merged: row[name] };
    for (const [side, value] of Object.entries(sides)) {
      const text = spell(value), place = JSON.stringify([name, side, ...keys.map((key) => row[key]), ...times.map((time) => row[time])]);
      const changed = last.size && last.get(place) !== text ? " changed" : "";
      seen.set(place, text);
      line.append(element("td", text, `value ${text === "–" ? "none" : side}${isNumber(value) ? " number" : ""}${changed}`));
    }
    return line;
  }));
  const newest = result.rows.length === ROWS && rows.value.startsWith("-bucket");
  Object.assign(sections.get(view.name), { last: seen, oldest: newest ? result.rows[ROWS - 1].bucket : null });
  made.querySelector(".proof").textContent = spellProof(result, name);
}

function spellProof({ proof, rows }, name) {
  const bound = proof.measures[name], both = (sides) => sides.batch + sides.speed;
  const parts = [`${rows.length} rows shown`, `version ${proof.version}`, `${proof.events.batch} events in batch + ${proof.events.speed} in speed`,
    `${both(proof.duplicates)} duplicates`, `${both(proof.dead_letters)} dead letters`, `${both(proof.rejects)} rejects`];
  if (proof.floor) parts.push(`nothing before ${spellTime(proof.floor)}`);
  if (bound) parts.push(`${name} is ${bound.exact ? "exact" : bound.text}`);
  return parts.join(" · ");
}

const offsets = (cut) => Object.values(cut).flatMap((topic) => Object.values(topic)).reduce((sum, offset) => sum + offset, 0);
const spellCut = (cut) => Object.entries(cut).map(([topic, parts]) => `${topic}: ${Object.values(parts).join(", ")}`).join("; ");

function spellBatch(run) {
  if (!run) return ["none yet", ""];
  const steps = (run.steps || []).map((step) => `${step.name} ${spell(step.seconds)} s`).join(", ");
  return [`${run.mode || "batch"}${run.seconds === undefined ? "" : `, ${spell(run.seconds)} s`}`, steps];
}

function showStatus(status) {
  const state = find("state");
  state.textContent = status.ready ? "ready" : "not ready";
  state.className = status.ready ? "ready" : "";
  const sum = (counts) => Object.values(counts).reduce((total, one) => total + (typeof one === "object" ? sum(one) : one), 0);
  const facts = [
    ["committed", offsets(status.committed), spellCut(status.committed)],
    ["published", offsets(status.published), spellCut(status.published)],
    ["lag", status.lag_events === null ? "unknown" : status.lag_events, status.kafka.error || "events in Kafka, not committed"],
    ["hand-offs", status.batch_version, `generations: ${status.generations.length}`],
    ["last batch run", ...spellBatch(status.last_batch)],
    ["dead letters", sum(status.dead_letters), `${sum(status.duplicates)} duplicates`],
  ];
  find("facts").replaceChildren(...facts.map(([name, value, note]) => {
    const fact = element("div"), body = element("dd", String(value));
    if (note) body.append(element("small", note));
    fact.append(element("dt", name), body);
    return fact;
  }));
}

async function refreshViews() {
  if (Date.now() - describedAt > VIEWS_EVERY) {
    layOut((await ask("/v1/views")).views);
    describedAt = Date.now();
  }
  if (!described.length) return;
  const queries = described.map((view) => {
    const { rows, measure, oldest } = sections.get(view.name);
    const query = { view: view.name, parts: true, limit: ROWS, order: rows.value, measures: [measure.value] };
    // The newest rows are at least as new as they were.
    return oldest && rows.value.startsWith("-bucket") ? { ...query, from: oldest } : query;
  });
  const asked = described;
  const { results } = await ask("/v1/query", { queries });
  asked.forEach((view, index) => { if (sections.has(view.name)) show(view, results[index]); });
}

let running = false, timer;
async function refresh() {
  if (running) return;
  running = true;
  const began = Date.now();
  clearTimeout(timer);
  const done = document.hidden ? [] : await Promise.allSettled([refreshViews(), ask("/v1/status").then(showStatus)]);
  const failed = [...new Set(done.filter((one) => one.status === "rejected").map((one) => one.reason.message))];
  if (failed.length) describedAt = 0;
  if (failed.length && failed.length === done.length) { find("state").textContent = "no answer"; find("state").className = ""; }
  find("error").hidden = !failed.length;
  find("error").textContent = failed.join(" / ");
  running = false;
  timer = setTimeout(refresh, Math.max(EVERY, 3 * (Date.now() - began)));  // a slow server is asked less often
}

refresh();
