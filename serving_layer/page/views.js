// The cards of the views. Only cards that are seen are asked for, and a view that fails fails alone.

import { ask, Refused } from "/api.js";
import { Card } from "/card.js";
import { element } from "/spell.js";

const VIEWS_EVERY = 10000, MOST = 100;
const cards = new Map();
const seen = new Set();
const watch = new IntersectionObserver((entries) => {
  const fresh = entries.filter((entry) => entry.isIntersecting && !seen.has(entry.target.dataset.view)).map((entry) => cards.get(entry.target.dataset.view));
  for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.dataset.view);
  look(fresh.filter(Boolean));
});
let describedAt = 0;

// Cards at once, beside what is asked for every so often, which tells what is wrong.
function look(some) {
  refreshCards(some).catch(() => {});
}

function layOut(views) {
  const place = document.getElementById("cards");
  for (const view of views) {
    const old = cards.get(view.name);
    if (old && old.view.fingerprint === view.fingerprint) continue;
    const made = new Card(view, (card) => look([card]), old);
    cards.set(view.name, made);
    if (old) {
      watch.unobserve(old.made);
      old.made.before(made.made);
      old.end();
      seen.delete(view.name);
    } else place.append(made.made);
    watch.observe(made.made);
  }
  for (const [name, old] of cards) {
    if (views.some((view) => view.name === name)) continue;
    watch.unobserve(old.made);
    old.end();
    cards.delete(name);
    seen.delete(name);
  }
  document.getElementById("none").hidden = views.length > 0;
}

// One answer or refusal for each card: of one snapshot, but for those that failed the last time.
async function answers(asked) {
  const alone = (one) => ask("/v1/query", { queries: [one.query()] }).then(({ results }) => results[0], (error) => {
    if (!(error instanceof Refused)) throw error;
    return error;
  });
  const sound = asked.filter((one) => !one.failed), found = new Map();
  try {
    const { results } = sound.length ? await ask("/v1/query", { queries: sound.map((one) => one.query()) }) : { results: [] };
    sound.forEach((one, index) => found.set(one, results[index]));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (/VIEW/.test(error.condition)) describedAt = 0;
  }
  await Promise.all(asked.filter((one) => !found.has(one)).map(async (one) => found.set(one, await alone(one))));
  return asked.map((one) => found.get(one));
}

async function refreshCards(some) {
  if (!some.length) return;
  const chosen = some.map((one) => one.chosen), found = await answers(some);
  some.forEach((one, index) => {
    if (cards.get(one.view.name) !== one || one.chosen !== chosen[index]) return;
    if (found[index] instanceof Refused) one.fail(found[index]);
    else one.show(found[index]);
  });
}

export async function describe() {
  if (Date.now() - describedAt > VIEWS_EVERY) {
    layOut((await ask("/v1/views")).views);
    describedAt = Date.now();
  }
  return [...cards.values()].map((one) => one.view);
}

export async function refreshViews() {
  await describe();
  await refreshCards([...cards.values()].filter((one) => seen.has(one.view.name)).slice(0, MOST));
}

// Views that do not answer, or not as they were defined last, and why.
export function showWaiting({ waiting, quarantined }) {
  const lines = [
    ...quarantined.map((entry) => `${entry.view} failed in the ${entry.layer} layer and is quarantined: ${entry.reason}`),
    ...waiting.filter((name) => !quarantined.some((entry) => entry.view === name)).map((name) => `${name} waits for the next batch run${cards.has(name) ? ", and answers as it was" : ""}`),
  ];
  const place = document.getElementById("waiting");
  if (place.textContent !== lines.join("")) place.replaceChildren(...lines.map((line) => element("li", line)));
}
