// A chart of ECharts: the colours of the page's theme, patterns, axes, and what all charts have.

/* global echarts */
import { short, spellShort } from "/spell.js";

const quiet = matchMedia("(prefers-reduced-motion: reduce)"), forced = matchMedia("(forced-colors: active)");
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

  // What somebody looks at, such as a tooltip or a series that was switched off, stays while the chart is the same kind.
  draw(options) {
    const c = colours(), made = { ...common(c), ...options(c) };
    const kind = JSON.stringify([c, made.xAxis?.type, made.yAxis?.type, made.series.map(({ name, type, stack }) => [name, type, stack])]);
    this.chart.setOption(made, { notMerge: kind !== this.kind });
    Object.assign(this, { options, kind });
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

forced.addEventListener("change", recolour);

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

export function common(c) {
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

export function valueAxis(c, more) {
  return {
    type: "value", axisLabel: { color: c.quiet, hideOverlap: true, alignMinLabel: "left", formatter: spellShort },
    axisLine: { lineStyle: { color: c.line } }, splitLine: { lineStyle: { color: c.line } }, ...more,
  };
}

// `flat`: the labels stand on the left, the first on top.
export function labelAxis(c, labels, flat) {
  const beside = { color: c.ink, width: 130, overflow: "truncate" }, below = { color: c.quiet, hideOverlap: true, alignMinLabel: "left" };
  return {
    type: "category", data: labels.map((label) => short(label, 80)), inverse: flat, axisLabel: flat ? beside : below,
    axisLine: { lineStyle: { color: c.line } }, splitLine: { lineStyle: { color: c.line } },
  };
}

export const across = (flat, labels, values) => (flat ? { xAxis: values, yAxis: labels } : { xAxis: labels, yAxis: values });
