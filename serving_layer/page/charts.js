// What ECharts is told: colours of the page's theme, and the options of each kind of chart.

/* global echarts */
import { spell, spellShort, toNumber } from "/spell.js";

const ADDED = new Set(["count", "sum"]);
const quiet = matchMedia("(prefers-reduced-motion: reduce)");
const drawn = new Set();

function colours() {
  const style = getComputedStyle(document.documentElement), get = (name) => style.getPropertyValue(name).trim();
  return {
    ink: get("--ink"), quiet: get("--quiet"), line: get("--line"), card: get("--card"), batch: get("--batch"), speed: get("--speed"),
    several: ["--one", "--two", "--three", "--four", "--five", "--six"].map(get),
  };
}

// A chart in an element of the page; `draw` takes a function from colours to options.
export class Chart {
  constructor(place) {
    this.place = place;
    this.chart = echarts.init(place, null, { renderer: "canvas" });
    this.watch = new ResizeObserver(() => this.chart.resize());
    this.watch.observe(place);
    drawn.add(this);
  }

  draw(options) {
    this.options = options;
    this.chart.setOption({ ...common(colours()), ...options(colours()) }, { notMerge: true });
  }

  redraw() {
    if (this.options) this.draw(this.options);
  }

  end() {
    this.watch.disconnect();
    this.chart.dispose();
    drawn.delete(this);
  }
}

export function recolour() {
  for (const chart of drawn) chart.redraw();
}

// A colour with a pattern in it, so that nobody has to tell colours apart: plain, stripes, dots, stripes the other way, a grid.
const patterns = new Map();

export function patterned(colour, on, kind) {
  if (kind === 0) return colour;
  const key = `${colour} ${on} ${kind}`;
  if (!patterns.has(key)) {
    const canvas = document.createElement("canvas"), size = canvas.width = canvas.height = 8, brush = canvas.getContext("2d");
    brush.fillStyle = colour;
    brush.fillRect(0, 0, size, size);
    brush.strokeStyle = brush.fillStyle = on;
    brush.lineWidth = 1.5;
    const line = (...points) => { brush.beginPath(); brush.moveTo(points[0], points[1]); brush.lineTo(points[2], points[3]); brush.stroke(); };
    if (kind === 1) [-size, 0, size].forEach((at) => line(at, size, at + size, 0));
    if (kind === 2) { brush.beginPath(); brush.arc(4, 4, 1.6, 0, 7); brush.fill(); }
    if (kind === 3) [-size, 0, size].forEach((at) => line(at, 0, at + size, size));
    if (kind >= 4) { line(4, 0, 4, size); if (kind === 5) line(0, 4, size, 4); }
    patterns.set(key, { image: canvas, repeat: "repeat" });
  }
  return patterns.get(key);
}

function common(c) {
  return {
    animationDuration: quiet.matches ? 0 : 200,
    animationDurationUpdate: quiet.matches ? 0 : 200,
    textStyle: { fontFamily: "system-ui, sans-serif", color: c.ink },
    backgroundColor: "transparent",
    grid: { left: 8, right: 14, top: 34, bottom: 8, containLabel: true },
    legend: { top: 0, left: 0, textStyle: { color: c.ink }, itemHeight: 10, itemWidth: 16, type: "scroll" },
    tooltip: {
      trigger: "axis", renderMode: "richText", confine: true, backgroundColor: c.card, borderColor: c.line,
      textStyle: { color: c.ink, fontSize: 12 }, axisPointer: { type: "shadow", shadowStyle: { opacity: 0.15 } },
    },
  };
}

function axis(c, kind, more) {
  return {
    type: kind, axisLabel: { color: c.quiet, hideOverlap: true, alignMinLabel: "left", ...(kind === "value" && { formatter: spellShort }) },
    axisLine: { lineStyle: { color: c.line } }, splitLine: { lineStyle: { color: c.line } }, ...more,
  };
}

// What a value of a measure looks like: a number, percentiles, counts by category, a ranking, or something else.
export function shapeOf(values) {
  const value = values.find((one) => one !== null && one !== undefined);
  if (value === undefined || toNumber(value) !== null) return "number";
  if (Array.isArray(value)) return "ranking";
  if (typeof value === "object") return Object.keys(value).every((name) => /^p\d/.test(name)) ? "percentiles" : "categories";
  return "other";
}

// `rows` are labelled: {label, merged, batch, speed}. `flat`: labels on the left, bars lie.
export function options(rows, measure, flat) {
  const shape = shapeOf(rows.map((row) => row.merged));
  if (shape === "percentiles") return flat ? boxes(rows) : percentiles(rows);
  if (shape === "categories") return categories(rows, flat);
  if (shape === "ranking") return sides(ranking(rows), true, true);
  return sides(rows, flat, measure && ADDED.has(measure.kind));
}

// Both sides of each row, one on the other with the tideline between them where they add up, else beside what they merge into.
function sides(rows, flat, added) {
  const numbers = (side) => rows.map((row) => toNumber(row[side]));
  return (c) => {
    const labels = axis(c, "category", { data: rows.map((row) => row.label), inverse: flat, ...(flat && { axisLabel: { color: c.ink, width: 130, overflow: "truncate" } }) });
    const values = axis(c, "value", { scale: !added });
    const bar = (name, side, kind) => ({
      name, type: "bar", data: numbers(side), stack: added ? "both" : undefined, barMaxWidth: 26,
      itemStyle: { color: patterned(c[side], c.card, kind) },
    });
    const parts = [bar("batch", "batch", 0), bar("speed", "speed", 1)];
    const at = rows.map((row, index) => [index, toNumber(row.batch) ?? 0]);
    const tideline = flat
      ? { name: "tideline", type: "scatter", symbol: "rect", symbolSize: [3, 20], data: at.map(([index, value]) => [value, index]), itemStyle: { color: c.ink }, z: 5 }
      : { name: "tideline", type: "line", step: "middle", symbol: "none", data: at.map(([, value]) => value), lineStyle: { color: c.ink, width: 2 }, itemStyle: { color: c.ink }, z: 5 };
    const merged = flat
      ? { name: "merged", type: "scatter", symbol: "diamond", symbolSize: 11, data: rows.map((row, index) => [toNumber(row.merged), index]), itemStyle: { color: c.ink }, z: 5 }
      : { name: "merged", type: "line", symbol: "diamond", symbolSize: 7, data: numbers("merged"), lineStyle: { color: c.ink, width: 2 }, itemStyle: { color: c.ink }, z: 5 };
    return {
      xAxis: flat ? values : labels, yAxis: flat ? labels : values, series: [...parts, added ? tideline : merged], tooltip: told(c, rows),
    };
  };
}

function told(c, rows) {
  return {
    ...common(c).tooltip,
    formatter: (points) => {
      const row = rows[(Array.isArray(points) ? points[0] : points).dataIndex];
      return row ? [row.label, `merged ${spell(row.merged)}`, `batch ${spell(row.batch)}`, `speed ${spell(row.speed)}`].join("\n") : "";
    },
  };
}

function percentiles(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.merged || {})))];
  return (c) => ({
    xAxis: axis(c, "category", { data: rows.map((row) => row.label) }), yAxis: axis(c, "value", { scale: true }), tooltip: told(c, rows),
    series: names.map((name, index) => ({
      name, type: "line", data: rows.map((row) => toNumber((row.merged || {})[name])), symbol: ["circle", "rect", "triangle", "diamond", "pin", "arrow"][index % 6],
      symbolSize: 6, lineStyle: { color: c.several[index % 6], type: ["solid", "dashed", "dotted"][index % 3], width: 2 }, itemStyle: { color: c.several[index % 6] },
    })),
  });
}

// A box from the lowest percentile to the highest that there are, with the middle half or the nearest to it.
function boxes(rows) {
  const box = (found) => {
    const known = Object.entries(found || {}).map(([name, value]) => [Number(name.slice(1)), toNumber(value)]).filter(([, value]) => value !== null);
    if (!known.length) return [];
    const near = (wanted) => known.reduce((best, one) => (Math.abs(one[0] - wanted) < Math.abs(best[0] - wanted) ? one : best))[1];
    const values = known.map(([, value]) => value);
    return [Math.min(...values), near(25), near(50), near(75), Math.max(...values)];
  };
  return (c) => ({
    legend: { show: false }, grid: { ...common(c).grid, top: 10 }, tooltip: { ...told(c, rows), trigger: "item" },
    xAxis: axis(c, "value", { scale: true }),
    yAxis: axis(c, "category", { data: rows.map((row) => row.label), inverse: true, axisLabel: { color: c.ink, width: 130, overflow: "truncate" } }),
    series: [{ type: "boxplot", data: rows.map((row) => box(row.merged)), itemStyle: { color: c.card, borderColor: c.batch, borderWidth: 2 } }],
  });
}

function categories(rows, flat) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.merged || {})))];
  return (c) => {
    const labels = axis(c, "category", { data: rows.map((row) => row.label), inverse: flat, ...(flat && { axisLabel: { color: c.ink, width: 130, overflow: "truncate" } }) });
    const values = axis(c, "value");
    return {
      xAxis: flat ? values : labels, yAxis: flat ? labels : values, tooltip: told(c, rows),
      series: names.map((name, index) => ({
        name, type: "bar", stack: "all", barMaxWidth: 26, itemStyle: { color: patterned(c.several[index % 6], c.card, index % 6) },
        data: rows.map((row) => toNumber((row.merged || {})[name])),
      })),
    };
  };
}

// The items of the first row's ranking as rows of their own.
function ranking(rows) {
  const first = rows[rows.length - 1] || {};
  const of = (side, item) => ((first[side] || []).find(([name]) => String(name) === item) || [null, null])[1];
  return (first.merged || []).map(([item, merged]) => {
    const name = String(item);
    return { label: name, merged, batch: of("batch", name), speed: of("speed", name) };
  });
}
