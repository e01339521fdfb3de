// A card for each view: a chart or a table of one measure, drawn anew with each snapshot. Only cards that are seen are asked for.

import { ask } from "/api.js";
import { Chart, options } from "/charts.js";
import { element, isNumber, spell, spellKey, spellTime } from "/spell.js";

const ROWS = 12, TIMES = 48, VIEWS_EVERY = 10000;
const cards = new Map();
const seen = new Set();
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.dataset.view);
});
let describedAt = 0;

const ordered = (view) => Object.entries(view.measures).filter(([, measure]) => measure.type !== "structured").map(([name]) => name);
const shownAs = (view) => [
  ...(view.bucket ? [["time", "over time"]] : []),
  view.key.length ? ["top", "most"] : ["total", "in all"],
  ["table", "table"],
];

function card(view) {
  const made = document.getElementById("view").content.firstElementChild.cloneNode(true);
  made.dataset.view = view.name;
  made.querySelector("h3").textContent = view.name;
  const measure = made.querySelector(".measure"), kind = made.querySelector(".kind");
  for (const name of [...Object.keys(view.measures), ...Object.keys(view.answers)]) measure.append(new Option(name, name));
  for (const [value, text] of shownAs(view)) kind.append(new Option(text, value));
  for (const select of [measure, kind]) select.addEventListener("change", () => refreshViews(true).catch(() => {}));
  made.querySelector(".scroll").setAttribute("aria-label", `${view.name}, scrolls sideways`);
  made.querySelector(".chart").setAttribute("aria-label", `${view.name}, not drawn yet`);
  watch.observe(made);
  return { view, made, measure, kind, chart: null, last: new Map(), oldest: null, asked: "" };
}

function layOut(views) {
  for (const [name, old] of cards) {
    const view = views.find((candidate) => candidate.name === name);
    if (!view || view.fingerprint !== old.view.fingerprint) {
      old.chart?.end();
      watch.unobserve(old.made);
      old.made.remove();
      cards.delete(name);
      seen.delete(name);
    }
  }
  for (const view of views) {
    if (!cards.has(view.name)) {
      cards.set(view.name, card(view));
      document.getElementById("cards").append(cards.get(view.name).made);
    }
  }
  document.getElementById("none").hidden = views.length > 0;
}

function query({ view, measure, kind, oldest }) {
  const name = measure.value, common = { view: view.name, parts: true, measures: [name] };
  if (kind.value === "time") {
    const newest = { ...common, group_by: [], order: ["-bucket"], limit: TIMES };
    return oldest ? { ...newest, from: oldest } : newest;  // the newest are at least as new as they were
  }
  if (kind.value === "total") return { ...common, ...(view.bucket && { window: "all" }) };
  const by = name in view.measures && !ordered(view).includes(name) ? ordered(view)[0] : name;
  if (kind.value === "top") return { ...common, limit: ROWS, ...(view.bucket && { window: "all" }), ...(by && { order: [`-${by}`] }) };
  return { ...common, limit: ROWS, order: view.bucket ? ["-bucket", ...(by ? [`-${by}`] : [])] : by ? [`-${by}`] : [] };
}

function show(one, result) {
  const { view, made, measure, kind } = one, name = measure.value, isTable = kind.value === "table";
  made.querySelector(".scroll").hidden = !isTable;
  made.querySelector(".chart").hidden = isTable;
  if (isTable) showTable(one, result);
  else showChart(one, result);
  one.oldest = kind.value === "time" && result.rows.length === TIMES ? result.rows[TIMES - 1].bucket : null;
  made.querySelector(".proof").textContent = spellProof(result, name);
}

function showChart(one, result) {
  const { view, made, measure, kind } = one, name = measure.value, keys = view.key.map((column) => column.name);
  const side = (row, which) => row.parts[which] && row.parts[which][name];
  const rows = result.rows.map((row) => ({
    label: kind.value === "time" ? spellTime(row.bucket) : spellKey(row, keys), merged: row[name], batch: side(row, "batch"), speed: side(row, "speed"),
  }));
  if (kind.value === "time") rows.reverse();
  const place = made.querySelector(".chart");
  one.chart ??= new Chart(place);
  one.chart.draw(options(rows, view.measures[name], kind.value !== "time"));
  const newest = rows[kind.value === "time" ? rows.length - 1 : 0];
  place.setAttribute("aria-label", `${view.name}, ${name}: ${newest ? `${newest.label} ${spell(newest.merged)}, of ${rows.length} shown` : "nothing yet"}`);
}

function showTable(one, result) {
  const { view, made, measure, last } = one, name = measure.value, keys = view.key.map((column) => column.name);
  const times = view.bucket ? ["bucket"] : [], head = element("tr"), seenNow = new Map();
  const heading = (text, kind) => Object.assign(element("th", text, kind), { scope: "col" });
  for (const column of [...keys, ...times]) head.append(heading(column));
  for (const side of ["batch", "speed", "merged"]) head.append(heading(side, `value ${side}`));
  made.querySelector("thead").replaceChildren(head);
  made.querySelector("tbody").replaceChildren(...result.rows.map((row) => {
    const line = element("tr");
    for (const key of keys) line.append(element("td", row[key] === null ? "null" : spell(row[key])));
    for (const time of times) line.append(element("td", spellTime(row[time]), "time"));
    const sides = { batch: row.parts.batch && row.parts.batch[name], speed: row.parts.speed && row.parts.speed[name], merged: row[name] };
    for (const [side, value] of Object.entries(sides)) {
      const text = spell(value), place = JSON.stringify([name, side, ...keys.map((key) => row[key]), ...times.map((time) => row[time])]);
      const changed = last.size && last.get(place) !== text ? " changed" : "";
      seenNow.set(place, text);
      line.append(element("td", text, `value ${text === "–" ? "none" : side}${isNumber(value) ? " number" : ""}${changed}`));
    }
    return line;
  }));
  one.last = seenNow;
}

function spellProof({ proof, rows }, name) {
  const bound = proof.measures[name], both = (sides) => sides.batch + sides.speed;
  const parts = [`${rows.length} rows shown`, `version ${proof.version}`, `${proof.events.batch} events in batch + ${proof.events.speed} in speed`,
    `${both(proof.duplicates)} duplicates`, `${both(proof.dead_letters)} dead letters`, `${both(proof.rejects)} rejects`];
  if (proof.floor) parts.push(`nothing before ${spellTime(proof.floor)}`);
  if (bound) parts.push(`${name} is ${bound.exact ? "exact" : bound.text}`);
  return parts.join(" · ");
}

export function forgetViews() {
  describedAt = 0;
}

export async function describe() {
  if (Date.now() - describedAt > VIEWS_EVERY) {
    layOut((await ask("/v1/views")).views);
    describedAt = Date.now();
  }
  return [...cards.values()].map((one) => one.view);
}

export async function refreshViews(changed) {
  await describe();
  const asked = [...cards.values()].filter((one) => seen.has(one.view.name)).slice(0, 100);
  if (changed) for (const one of asked) one.oldest = null;
  if (!asked.length) return;
  const chosen = asked.map((one) => one.measure.value + one.kind.value);
  const { results } = await ask("/v1/query", { queries: asked.map(query) });
  asked.forEach((one, index) => {
    if (cards.get(one.view.name) === one && chosen[index] === one.measure.value + one.kind.value) show(one, results[index]);
  });
}

