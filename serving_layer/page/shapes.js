// How the answers of each kind of measure are drawn. Rows are {label, merged, batch, speed}, a gap in time is one without values.

import { across, common, labelAxis, patterned, valueAxis } from "/charts.js";
import { isNumber, short, spell, toNumber } from "/spell.js";

const ADDED = new Set(["count", "sum"]), NUMERIC = /^(tinyint|smallint|int|bigint|float|double|decimal)/;
const KINDS = { quantiles: "percentiles", count_by: "categories", top_k: "ranking" };
const MOST = 12;

// What answers look like: number, percentiles, categories, ranking; or text, which only a table shows.
export function shapeOf(measure, values) {
  if (measure) return KINDS[measure.kind] || (NUMERIC.test(measure.type) ? "number" : "text");
  return values.every((value) => value === null || value === undefined || isNumber(value) || isNoNumber(value)) ? "number" : "text";
}

// A double that is no number, as the API writes it: a chart has no place for it.
export const isNoNumber = (value) => ["NaN", "Infinity", "-Infinity"].includes(value);

// {options, caption}: what a chart draws, and what has to be said of it. `flat`: labels on the left, bars lie.
export function draw(rows, measure, flat) {
  const shape = shapeOf(measure, rows.map((row) => row.merged));
  if (shape === "percentiles") return namesOf(rows).length === 1 ? onePercentile(rows, flat) : flat ? boxes(rows) : percentiles(rows);
  if (shape === "categories") return categories(rows, flat);
  if (shape === "ranking") return ranking(flat ? rows[0] : rows[rows.length - 1]);
  return sides(rows, flat, measure && ADDED.has(measure.kind));
}

function told(c, rows) {
  const formatter = (points) => {
    const row = rows[(Array.isArray(points) ? points[0] : points).dataIndex];
    return row ? [short(row.label), ...["merged", "batch", "speed"].map((side) => `${side} ${short(spell(row[side]))}`)].join("\n") : "";
  };
  return { ...common(c).tooltip, formatter };
}

// Where batch ends and speed begins.
function tideline(c, rows, flat, sumOf) {
  const at = rows.map((row) => (row.whole || row.gap ? null : sumOf(row)));
  const named = { name: "tideline", z: 5 }, rim = { borderColor: c.card, borderWidth: 1 };
  return flat
    ? { ...named, type: "scatter", symbol: "rect", symbolSize: [5, 24], data: at.flatMap((value, index) => (value === null ? [] : [[value, index]])), itemStyle: { color: c.ink, ...rim } }
    : { ...named, type: "line", step: "middle", symbol: "none", data: at, lineStyle: { color: c.ink, width: 2, shadowColor: c.card, shadowBlur: 4 }, itemStyle: { color: c.ink } };
}

function points(name, symbol, symbolSize, color, values, flat, type = "scatter") {
  const data = flat ? values.flatMap((value, index) => (value === null ? [] : [[value, index]])) : values;
  return { name, type, symbol, symbolSize, data, itemStyle: { color }, lineStyle: { color, width: 2 }, z: 6 };
}

// Both sides of each row: one on the other with the tideline between them where they add up, else beside what they merge into.
function sides(rows, flat, added) {
  const of = (side) => rows.map((row) => (row.whole ? null : toNumber(row[side])));
  const merged = rows.map((row) => toNumber(row.merged)), crossed = (row) => toNumber(row.batch) * toNumber(row.speed) < 0;
  const options = (c) => {
    const bar = (name, color, data) => ({ name, type: "bar", data, stack: added ? "both" : undefined, barMaxWidth: 26, itemStyle: { color } });
    const bars = [bar("batch", c.batch, of("batch")), bar("speed", patterned(c.speed, c.card, 1), of("speed"))];
    const series = added ? [...bars, tideline(c, rows, flat, (row) => toNumber(row.batch) ?? 0)]
      : flat ? [...bars, points("merged", "diamond", 11, c.ink, merged, true)]
        : [points("batch", "circle", 7, c.batch, of("batch")), points("speed", "triangle", 8, c.speed, of("speed")), points("merged", "diamond", 7, c.ink, merged, false, "line")];
    if (added && rows.some((row) => row.whole)) series.push(bar("merged", patterned(c.quiet, c.card, 3), rows.map((row) => (row.whole ? toNumber(row.merged) : null))));
    if (added && rows.some(crossed)) series.push(points("merged", "diamond", 11, c.ink, rows.map((row, index) => (crossed(row) ? merged[index] : null)), flat));
    return { ...across(flat, labelAxis(c, rows.map((row) => row.label), flat), valueAxis(c, { scale: !added && !flat })), series, tooltip: told(c, rows) };
  };
  return { options, caption: added ? "" : "batch and speed do not add up to the answer: it is merged of both" };
}

// The items of one row's ranking. A side that ranks others higher may hold more of an item than none: then it is not split.
function ranking(row) {
  const list = (side) => (row && row[side]) || [];
  const most = Math.max(list("batch").length, list("speed").length);
  const of = (side, item) => (list(side).find(([name]) => name === item) || [null, list(side).length < most ? 0 : null])[1];
  const items = list("merged").map(([item, merged]) => {
    const [batch, speed] = ["batch", "speed"].map((side) => (row[side] ? of(side, item) : 0));
    return { label: String(item ?? "null") || "(empty)", merged, batch, speed, whole: batch === null || speed === null || batch + speed !== merged };
  });
  const unsplit = items.some((item) => item.whole) ? "; not split where a side ranks others higher" : "";
  return { options: sides(items, true, true).options, caption: row ? `of ${short(row.label)}${unsplit}` : "" };
}

const ofName = (name) => Number(name.slice(1).replace("_", "."));
const namesOf = (rows) => [...new Set(rows.flatMap((row) => Object.keys(row.merged || {})))];

function onePercentile(rows, flat) {
  const [name] = namesOf(rows), of = (row, side) => row[side] && row[side][name];
  return { ...sides(rows.map((row) => ({ ...row, merged: of(row, "merged"), batch: of(row, "batch"), speed: of(row, "speed") })), flat, false), caption: `${name}, which batch and speed have alone and merged` };
}

function percentiles(rows) {
  const names = namesOf(rows);
  const options = (c) => {
    const of = (side, name) => rows.map((row) => toNumber((row[side] || {})[name]));
    const marks = (side, symbol, color) => points(side, symbol, 5, color, names.flatMap((name) => of(side, name).map((value, index) => [index, value])).filter(([, value]) => value !== null));
    const lines = names.map((name, index) => ({
      name, type: "line", data: of("merged", name), symbol: "none", lineStyle: { color: c.several[2 + (index % 4)], type: ["solid", "dashed", "dotted"][index % 3], width: 2 },
      itemStyle: { color: c.several[2 + (index % 4)] },
    }));
    const series = [...lines, marks("batch", "circle", c.batch), marks("speed", "triangle", c.speed)];
    return { ...across(false, labelAxis(c, rows.map((row) => row.label), false), valueAxis(c, { scale: true })), series, tooltip: told(c, rows) };
  };
  return { options, caption: "lines are merged, marks are what each side holds alone" };
}

// A box from the percentile nearest to p25 to the one nearest to p75, whiskers from the lowest to the highest that there are.
function boxes(rows) {
  const names = namesOf(rows).sort((one, other) => ofName(one) - ofName(other));
  const near = (wanted) => names.reduce((best, name) => (Math.abs(ofName(name) - wanted) < Math.abs(ofName(best) - wanted) ? name : best), names[0]);
  const five = [names[0], near(25), near(50), near(75), names[names.length - 1]];
  const box = (found) => (found && five.every((name) => toNumber(found[name]) !== null) ? five.map((name) => toNumber(found[name])) : []);
  const options = (c) => ({
    ...across(true, labelAxis(c, rows.map((row) => row.label), true), valueAxis(c, { scale: true })), tooltip: { ...told(c, rows), trigger: "item" },
    series: ["batch", "speed", "merged"].map((side) => ({
      name: side, type: "boxplot", data: rows.map((row) => box(row[side])), boxWidth: [3, 12],
      itemStyle: { color: side === "speed" ? patterned(c.card, c.speed, 1) : c.card, borderColor: c[side] || c.ink, borderWidth: side === "merged" ? 2 : 1.5 },
    })),
  });
  return { options, caption: names.length ? `box ${five[1]} to ${five[3]}, line ${five[2]}, whiskers ${five[0]} to ${five[4]}` : "" };
}

// Stacks of categories: first those of batch, then those of speed. The smallest of many are one.
function categories(rows, flat) {
  const totals = new Map();
  for (const row of rows) for (const [name, count] of Object.entries(row.merged || {})) totals.set(name, (totals.get(name) || 0) + toNumber(count));
  const ranked = [...totals.keys()].sort((one, other) => totals.get(other) - totals.get(one));
  const kept = (ranked.length > MOST ? ranked.slice(0, MOST - 1) : ranked).sort(), rest = ranked.length - kept.length;
  const sum = (counts) => Object.values(counts || {}).reduce((total, count) => total + toNumber(count), 0);
  const others = (counts) => counts && sum(counts) - kept.reduce((total, name) => total + (toNumber(counts[name]) || 0), 0);
  const options = (c) => {
    const bar = (name, index, data) => ({
      name, type: "bar", stack: "all", barMaxWidth: 26, data, itemStyle: { color: patterned(c.several[index % 6], c.card, (index + Math.floor(index / 6)) % 6) },
    });
    const series = ["batch", "speed"].flatMap((side) => [
      ...kept.map((name, index) => bar(name || "(empty)", index, rows.map((row) => toNumber((row[side] || {})[name])))),
      ...(rest ? [bar("all others", kept.length, rows.map((row) => others(row[side])))] : []),
    ]);
    series.push(tideline(c, rows, flat, (row) => sum(row.batch)));
    return { ...across(flat, labelAxis(c, rows.map((row) => row.label), flat), valueAxis(c)), series, tooltip: told(c, rows) };
  };
  return { options, caption: rest ? `the ${kept.length} largest of ${ranked.length} categories` : "" };
}
