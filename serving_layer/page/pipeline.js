// The pipeline as a graph: sources, layers, views, with what flows along each edge and how far behind it is.

import { describe } from "/views.js";
import { Chart } from "/charts.js";
import { spell, spellCount, spellShort, table } from "/spell.js";

let chart = null, before = null;

// What changed since the look before, a second: events by source, and the share of time that micro-batches took.
function rates(status) {
  const now = Date.now() / 1000, speed = status.layers.speed, found = { events: {}, load: null };
  if (before && now - before.at > 0.2) {
    for (const [name, source] of Object.entries(status.sources)) {
      const was = before.status.sources[name];
      if (was) found.events[name] = (source.committed - was.committed) / (now - before.at);
    }
    const was = before.status.layers.speed;
    if (speed.at > was.at && speed.pid === was.pid && was.seconds !== undefined) found.load = Math.min((speed.seconds - was.seconds) / (speed.at - was.at), 1);
    else if (speed.at === was.at) found.load = before.load;
  }
  before = { at: now, status, load: found.load };
  return found;
}

const perSecond = (rate) => (rate === undefined ? "" : `${spellShort(Math.max(rate, 0))}/s`);

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
      sources.map(([name, source]) => [`source ${name}`, `${name}\n${spellShort(source.committed)} events`, "source"]),
      [["speed", names.speed, "speed"], ["batch", names.batch, "batch"]],
      named.map((name) => [`view ${name}`, broken.includes(name) ? `${name}\nquarantined` : waiting.includes(name) ? `${name}\nwaits` : name, "view"]),
      [["serve", names.serve, "serve"]],
    ],
  };
}

function options({ columns, edges }, narrow) {
  const most = Math.max(...columns.map((column) => column.length), 2), few = edges.length <= 40;
  return (c) => {
    const colour = { source: c.several[2], speed: c.speed, batch: c.batch, view: c.quiet, serve: c.ink };
    const data = columns.flatMap((column, across) => column.map(([name, label, kind], index) => {
      const along = ((index + 0.5) / column.length) * most;
      return {
        name, x: narrow ? along * 90 : across * 230, y: narrow ? across * 130 : along * 56, symbol: kind === "view" ? "roundRect" : kind === "source" ? "circle" : "rect",
        symbolSize: narrow ? 14 : 18, itemStyle: { color: colour[kind] },
        label: { show: true, formatter: label, position: narrow ? (index % 2 ? "top" : "bottom") : across === 0 ? "bottom" : across === 3 ? "bottom" : kind === "view" ? "right" : "top", color: c.ink, fontSize: 11, lineHeight: 14, textBorderColor: c.card, textBorderWidth: 3 },
      };
    }));
    return {
      legend: { show: false }, tooltip: { renderMode: "richText", confine: true, backgroundColor: c.card, textStyle: { color: c.ink } },
      series: [{
        type: "graph", layout: "none", data, left: narrow ? 40 : 60, right: narrow ? 40 : 70, top: 40, bottom: 40, edgeSymbol: ["none", "arrow"], edgeSymbolSize: 6,
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
  const views = await describe(), found = rates(status), drawn = graph(status, views, found);
  const place = document.getElementById("graph"), narrow = place.clientWidth < 560;
  const most = Math.max(...drawn.columns.map((column) => column.length), 3);
  place.classList.toggle("tall", most > 8);
  chart ??= new Chart(place);
  chart.draw(options(drawn, narrow));
  place.setAttribute("aria-label", `The pipeline: ${Object.keys(status.sources).length} sources, ${views.length} views; the table below says the same`);
  const rows = Object.entries(status.sources).map(([name, source]) => [
    name, perSecond(found.events[name]) || "–", spellCount(source.committed), spell(source.lag), spellCount(source.committed - source.archived),
    spellCount(source.committed - source.published), views.filter((view) => view.source === name).map((view) => view.name).join(", "),
  ]);
  document.getElementById("flows").replaceChildren(table(["source", "events a second", "committed", "lag", "to archive", "to publish", "views"], rows));
}
