// A card of a view: what it asks for, and how the answer is shown, as a chart or a table of one measure.

import { Chart } from "/charts.js";
import { draw, isNoNumber, shapeOf } from "/shapes.js";
import { element, isNumber, short, spell, spellKey, spellPart, spellTime, tell } from "/spell.js";

const ROWS = 12, TIMES = 48, UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

const ordered = (view) => Object.entries(view.measures).filter(([, measure]) => measure.type !== "structured").map(([name]) => name);
const secondsOf = (bucket) => [...bucket.matchAll(/(\d+)([smhd])/g)].reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0);
const sidesOf = (row, name) => ({ batch: row.parts.batch && row.parts.batch[name], speed: row.parts.speed && row.parts.speed[name], merged: row[name] });
const shownAs = (view) => [
  ...(view.bucket ? [["time", "over time"]] : []),
  view.key.length ? ["top", "most"] : ["total", "in all"],
  ["table", "table"],
];

export class Card {
  // `changed` is called with the card when something else is chosen; `like` is a card whose choices are kept.
  constructor(view, changed, like) {
    const made = document.getElementById("view").content.firstElementChild.cloneNode(true);
    Object.assign(this, { view, made, measure: made.querySelector(".measure"), kind: made.querySelector(".kind"), chart: null, failed: false });
    this.forget();
    made.dataset.view = view.name;
    made.querySelector("h3").textContent = view.name;
    for (const name of [...Object.keys(view.measures), ...Object.keys(view.answers)]) this.measure.append(new Option(name, name));
    for (const [value, text] of shownAs(view)) this.kind.append(new Option(text, value));
    for (const part of ["measure", "kind"]) {
      if (like && [...this[part].options].some((one) => one.value === like[part].value)) this[part].value = like[part].value;
      this[part].addEventListener("change", () => { this.forget(); changed(this); });
    }
    made.querySelector(".scroll").setAttribute("aria-label", `${view.name}, scrolls sideways`);
    made.querySelector(".chart").setAttribute("aria-label", `${view.name}, not drawn yet`);
  }

  get chosen() {
    return `${this.measure.value} ${this.kind.value}`;
  }

  forget() {
    this.oldest = null;
    this.last = new Map();
  }

  // What rows are ordered by where the measure itself has no order.
  by() {
    const { view } = this, name = this.measure.value;
    return name in view.measures && !ordered(view).includes(name) ? ordered(view)[0] : name;
  }

  query() {
    const { view, kind, oldest } = this, common = { view: view.name, parts: true, measures: [this.measure.value] }, by = this.by();
    if (kind.value === "time") {
      const newest = { ...common, group_by: [], order: ["-bucket"], limit: TIMES };
      return oldest ? { ...newest, from: oldest } : newest;  // the newest are at least as new as they were
    }
    if (kind.value === "total") return { ...common, ...(view.bucket && { window: "all" }) };
    if (kind.value === "top") return { ...common, limit: ROWS, ...(view.bucket && { window: "all" }), ...(by && { order: [`-${by}`] }) };
    return { ...common, limit: ROWS, order: view.bucket ? ["-bucket", ...(by ? [`-${by}`] : [])] : by ? [`-${by}`] : [] };
  }

  show(result) {
    const name = this.measure.value, isTable = this.kind.value === "table" || shapeOf(this.view.measures[name], result.rows.map((row) => row[name])) === "text";
    this.failed = false;
    this.made.querySelector(".scroll").hidden = !isTable;
    this.made.querySelector(".chart").hidden = isTable;
    this.made.querySelector(".problem").hidden = true;
    const caption = isTable ? this.showTable(result) : this.showChart(result);
    const more = result.next ? `${this.kind.value === "time" ? "the newest" : "the first"} ${result.rows.length}, there are more` : "";
    tell(this.made.querySelector(".caption"), [more, caption, this.view.bucket && this.kind.value !== "top" ? "times in UTC" : ""].filter(Boolean).join(" · "));
    this.oldest = this.kind.value === "time" && result.rows.length === TIMES ? result.rows[TIMES - 1].bucket : null;
    this.made.querySelector(".proof").textContent = spellProof(result, name);
  }

  fail(error) {
    const problem = this.made.querySelector(".problem");
    this.failed = true;
    tell(problem, error.message);
    problem.hidden = false;
  }

  showChart(result) {
    const { view, kind } = this, name = this.measure.value, keys = view.key.map((column) => column.name), time = kind.value === "time";
    let rows = result.rows.map((row) => ({ label: time ? spellTime(row.bucket) : spellKey(row, keys), at: time ? Date.parse(row.bucket) : 0, ...sidesOf(row, name) }));
    const odd = rows.filter((row) => isNoNumber(row.merged)).length;
    if (time) rows = withGaps(rows.reverse(), secondsOf(view.bucket) * 1000);
    const place = this.made.querySelector(".chart"), newest = rows[time ? rows.length - 1 : 0];
    const { options, caption } = draw(rows, view.measures[name], !time);
    this.chart ??= new Chart(place);
    this.chart.draw(options);
    place.setAttribute("aria-label", `${view.name}, ${name}: ${newest ? `${newest.label} ${short(spell(newest.merged))}, of ${result.rows.length} shown` : "nothing yet"}`);
    const by = kind.value === "top" && this.by() !== name ? `by ${this.by()}` : "";
    return [by, caption, odd ? `${odd} ${odd === 1 ? "is" : "are"} no number and not drawn` : ""].filter(Boolean).join(" · ");
  }

  showTable(result) {
    const { view, made, last } = this, name = this.measure.value, keys = view.key.map((column) => column.name);
    const times = view.bucket ? ["bucket"] : [], head = element("tr"), seenNow = new Map();
    const heading = (text, kind) => Object.assign(element("th", text, kind), { scope: "col" });
    for (const column of [...keys, ...times]) head.append(heading(column));
    for (const side of ["batch", "speed", "merged"]) head.append(heading(side, `value ${side}`));
    made.querySelector("thead").replaceChildren(head);
    made.querySelector("tbody").replaceChildren(...result.rows.map((row) => {
      const line = element("tr"), times_ = times.map((time) => row[time]);
      for (const key of keys) line.append(element("td", spellPart(row[key]), row[key] === null || row[key] === "" ? "none" : ""));
      for (const time of times_) line.append(element("td", spellTime(time), "time"));
      for (const [side, value] of Object.entries(sidesOf(row, name))) {
        const text = short(spell(value), 1000), place = JSON.stringify([side, ...keys.map((key) => row[key]), ...times_]);
        const changed = last.size && last.get(place) !== text ? " changed" : "";
        seenNow.set(place, text);
        line.append(element("td", text, `value ${text === "–" ? "none" : side}${isNumber(value) ? " number" : ""}${changed}`));
      }
      return line;
    }));
    this.last = seenNow;
    return "";
  }

  end() {
    this.chart?.end();
    this.made.remove();
  }
}

// With an empty place wherever times without rows lie between two.
function withGaps(rows, step) {
  const nothing = { merged: null, batch: null, speed: null, gap: true };
  return rows.flatMap((row, index) => (index && row.at - rows[index - 1].at > step ? [{ ...nothing, label: "⋯" }, row] : [row]));
}

function spellProof({ proof, rows }, name) {
  const bound = proof.measures[name], both = (sides) => sides.batch + sides.speed;
  const parts = [`${rows.length} rows shown`, `version ${proof.version}`, `${proof.events.batch} events in batch + ${proof.events.speed} in speed`,
    `${both(proof.duplicates)} duplicates`, `${both(proof.dead_letters)} dead letters`, `${both(proof.rejects)} rejects`];
  if (proof.floor) parts.push(`nothing before ${spellTime(proof.floor)}`);
  if (proof.losses.length) parts.push(`without records that the log has lost: ${proof.losses.map(spellLoss).join(", ")}`);
  if (bound) parts.push(`${name} is ${bound.exact ? "exact" : bound.text}`);
  return parts.join(" · ");
}

const spellLoss = (loss) => Object.entries(loss).map(([what, value]) => `${what} ${spell(value)}`).join(" ");
