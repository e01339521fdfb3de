// The pipeline as a graph: sources, layers, views, with what flows along each edge and how far behind it is.

import { now } from "/api.js";
import { Chart } from "/charts.js";
import { spellCount, spellRate, table } from "/spell.js";
import { describe } from "/views.js";

const EACH = 46, ABOVE = 12, NARROW = 560, COLUMNS = ["records a second", "committed", "lag", "to archive", "to publish"];
const IDLE = 5;  // seconds without a micro-batch after which the speed layer has nothing to do
let chart = null, before = null;

// What changed since the look before, a second: events by source, and the share of time that micro-batches took.
function rates(status) {
  const at = Date.now() / 1000, { speed } = status.layers, found = { events: {}, load: null };
  if (before && at - before.at > 0.2) {
    for (const [name, source] of Object.entries(status.sources)) {
      const was = before.status.sources[name];
      if (was) found.events[name] = (source.committed - was.committed) / (at - before.at);
    }
    const was = before.status.layers.speed;
    if (speed.at > was.at && speed.pid === was.pid && was.seconds !== undefined) found.load = Math.min((speed.seconds - was.seconds) / (speed.at - was.at), 1);
    else if (speed.at === was.at) found.load = now() - speed.at > IDLE ? 0 : before.load;
  }
  before = { at, status, load: found.load };
  return found;
}

const perSecond = (rate) => (rate === undefined ? "" : `${spellRate(Math.max(rate, 0))}/s`);

function layers(status, found) {
  const { speed, batch } = status.layers, running = batch.alive && batch.running;
  return {
    speed: speed.alive ? `speed\n${found.load === null || found.load === undefined ? "reading" : `load ${Math.round(found.load * 100)} %`}` : "speed\ndown",
    batch: running ? `batch\n${running.step.name}` : batch.alive ? "batch\nwaits" : "batch\ndown",
    serve: `answers\nversion ${status.batch_version}`,
  };
}

// [from, to, what stands on the edge] of every edge; the nodes by column.
function graph(status, views, found) {
  const names = layers(status, found), sources = Object.entries(status.sources);
  const waiting = status.views.waiting, broken = status.views.quarantined.map((entry) => entry.view);
  const edges = [];
  for (const [name, source] of sources) {
    edges.push([`source ${name}`, "speed", [perSecond(found.events[name]), source.lag === null ? "lag unknown" : `lag ${spellCount(source.lag)}`].filter(Boolean).join(", ")]);
    edges.push([`source ${name}`, "batch", `${spellCount(source.committed - source.archived)} to archive`]);
  }
  for (const view of views) {
    edges.push(["speed", `view ${view.name}`, perSecond(found.events[view.source])]);
    edges.push(["batch", `view ${view.name}`, `v${status.batch_version}`]);
    edges.push([`view ${view.name}`, "serve", ""]);
  }
  const named = [...views.map((view) => view.name), ...[...waiting, ...broken].filter((name) => !views.some((view) => view.name === name))];
  return {
    edges,
    columns: [
      sources.map(([name, source]) => [`source ${name}`, `${name}\n${spellCount(source.committed)} records`, "source"]),
      [["speed", names.speed, "speed"], ["batch", names.batch, "batch"]],
      named.map((name) => [`view ${name}`, broken.includes(name) ? `${name}\nquarantined` : waiting.includes(name) ? `${name}\nwaits` : name, "view"]),
      [["serve", names.serve, "serve"]],
    ],
  };
}

// In pixels of a place of this width and height, so that nothing is stretched.
function options({ columns, edges }, width, height) {
  const narrow = width < NARROW, beside = narrow ? 44 : 90, few = edges.length <= 40;
  const across = (column) => beside + (column / (columns.length - 1)) * (width - 2 * beside), down = (index, count) => ABOVE + ((index + 0.5) / count) * (height - ABOVE);
  const highest = Math.min(...columns.map((column) => down(0, column.length))), lowest = Math.max(...columns.map((column) => down(column.length - 1, column.length)));
  return (c) => {
    const colour = { source: c.several[2], speed: c.speed, batch: c.batch, view: c.quiet, serve: c.ink };
    const data = columns.flatMap((column, place) => column.map(([name, label, kind], index) => ({
      name, x: across(place), y: down(index, column.length), symbol: kind === "view" ? "roundRect" : kind === "source" ? "circle" : "rect",
      symbolSize: narrow ? 14 : 18, itemStyle: { color: colour[kind] },
      label: {
        show: true, formatter: label, position: kind === "view" || kind === "speed" ? "top" : "bottom", width: narrow ? 84 : 180, overflow: "truncate",
        color: c.ink, fontSize: 11, lineHeight: 14, textBorderColor: c.card, textBorderWidth: 3,
      },
    })));
    return {
      legend: { show: false }, tooltip: { renderMode: "richText", confine: true, backgroundColor: c.card, textStyle: { color: c.ink } },
      series: [{
        name: "pipeline", type: "graph", layout: "none", data, left: beside, width: width - 2 * beside, top: highest, height: lowest - highest, edgeSymbol: ["none", "arrow"], edgeSymbolSize: 6,
        links: edges.map(([source, target, told]) => ({
          source, target, tooltip: { formatter: `${source} to ${target}${told ? `: ${told}` : ""}` },
          label: { show: few && Boolean(told) && !narrow && (source.startsWith("source") || target.startsWith("view")), formatter: told, fontSize: 10, color: c.ink, textBorderColor: c.card, textBorderWidth: 3 },
          lineStyle: { color: source === "speed" || target === "speed" ? c.speed : source === "batch" || target === "batch" ? c.batch : c.quiet, type: source === "batch" || target === "batch" ? "dashed" : "solid", width: 1.5, opacity: 0.8, curveness: 0.05 },
        })),
      }],
    };
  };
}

export async function refreshPipeline(status) {
  const views = await describe(), found = rates(status), drawn = graph(status, views, found), place = document.getElementById("graph");
  place.style.height = `${Math.max(300, EACH * Math.max(...drawn.columns.map((column) => column.length)))}px`;
  chart ??= new Chart(place);
  chart.draw(options(drawn, place.clientWidth, place.clientHeight));
  place.setAttribute("aria-label", `The pipeline: ${Object.keys(status.sources).length} sources, ${views.length} views; the table below says the same`);
  const rows = Object.entries(status.sources).map(([name, source]) => [
    name, perSecond(found.events[name]) || "–", spellCount(source.committed), source.lag === null ? "unknown" : spellCount(source.lag), spellCount(source.committed - source.archived),
    spellCount(source.committed - source.published), views.filter((view) => view.source === name).map((view) => view.name).join(", "),
  ]);
  document.getElementById("flows").replaceChildren(table(["source", ...COLUMNS, "views"], rows, Object.fromEntries(COLUMNS.map((column) => [column, "number"]))));
}
