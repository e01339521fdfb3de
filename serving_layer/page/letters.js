// Dead letters: which there are, why, and their bytes.

import { ask } from "/api.js";
import { element, offer, spellTime, table, unturned } from "/spell.js";

const find = (id) => document.getElementById(id);
const MOST_BYTES = 2048;

function hex(base64) {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0)), lines = [];
  for (let at = 0; at < Math.min(bytes.length, MOST_BYTES); at += 16) {
    const some = [...bytes.slice(at, at + 16)];
    const left = some.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${left}  ${some.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("")}`);
  }
  return lines.join("\n") + (bytes.length > MOST_BYTES ? `\n… ${bytes.length - MOST_BYTES} more` : "");
}

function open(letter) {
  const shown = find("letter");
  shown.querySelector("h3").textContent = `${letter.source}, partition ${letter.partition}, offset ${letter.offset}`;
  shown.querySelector(".reason").textContent = letter.reason;
  const more = letter.value.length - MOST_BYTES;
  shown.querySelector(".text").textContent = unturned(letter.value.slice(0, MOST_BYTES)) + (more > 0 ? `\n… ${more} more` : "");
  shown.querySelector(".bytes").textContent = hex(letter.base64);
  shown.hidden = false;
  shown.focus();
}

export async function refreshLetters() {
  const source = find("letters-source").value, reason = find("letters-reason").value.trim();
  const params = new URLSearchParams({ limit: 100, ...(source && { source }), ...(reason && { reason }) });
  const letters = (await ask(`/v1/dead-letters?${params}`)).dead_letters;
  find("letters-count").textContent = letters.length === 100 ? "The first 100." : letters.length === 1 ? "One." : `${letters.length || "None"}.`;
  find("letters-rows").replaceChildren(table(["source", "place", "at (UTC)", "reason", "bytes", ""], letters.map((letter) => {
    const button = element("button", "open");
    button.type = "button";
    button.setAttribute("aria-label", `open ${letter.source} ${letter.partition}:${letter.offset}`);
    button.addEventListener("click", () => open(letter));
    return [letter.source, `${letter.partition}:${letter.offset}`, spellTime(letter.at), unturned(letter.reason), letter.bytes, button];
  }), { place: "time", "at (UTC)": "time", bytes: "number", "": "time" }));
}

export function sourcesOfLetters(status) {
  offer(find("letters-source"), "all sources", Object.keys(status.sources));
}
