// How values are written for people. Times are UTC.

const LONGEST = 200;
const NUMBER = /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i;

// Whole numbers that a double cannot hold stay text.
export function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && context && /^-?\d+$/.test(context.source) && !Number.isSafeInteger(value) ? context.source : value);
}

export function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// What is read aloud when it changes is written only then.
export function tell(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// On one line, and not without end.
export function short(text, most = LONGEST) {
  const line = text.replace(/\r?\n|\r/g, "↵");
  return line.length > most ? `${line.slice(0, most)}…` : line;
}

// Characters that turn the direction of what follows are shown as what they are.
export const unturned = (text) => text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

export function spell(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((item) => (Array.isArray(item) ? `${item[0]} ${spell(item[1])}` : spell(item))).join(", ") || "–";
  if (typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${spell(inner)}`).join(", ") || "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(Math.min(Math.max(6, Math.ceil(Math.log10(Math.abs(value))) + 2), 17))));
  return String(value);
}

export const isNumber = (value) => typeof value === "number" || (typeof value === "string" && NUMBER.test(value));
export const toNumber = (value) => (isNumber(value) ? Number(value) : null);
export const spellTime = (text) => (text ? text.replace("T", " ").replace(/(:00)?Z$/, "") : "all time");
export const spellPart = (value) => (value === null ? "null" : value === "" ? "(empty)" : short(spell(value)));
export const spellKey = (row, keys) => keys.map((key) => spellPart(row[key])).join(" · ") || "all";
export const spellCut = (cut) => Object.entries(cut).map(([topic, parts]) => `${topic}: ${Object.values(parts).join(", ")}`).join("; ");
export const spellCount = new Intl.NumberFormat("en").format;
export const spellShort = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 6 }).format;
export const spellRate = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format;

// The time of day, with its date where that is not today's.
export function spellClock(seconds) {
  const text = new Date(seconds * 1000).toISOString(), today = new Date().toISOString().slice(0, 10);
  return text.slice(0, 10) === today ? text.slice(11, 19) : text.slice(0, 16).replace("T", " ");
}

// The choices of a select; what was chosen stays so where it is still there.
export function offer(select, all, names) {
  if ([...select.options].slice(1).map((one) => one.value).join("\n") === names.join("\n") && select.options.length) return;
  const chosen = select.value;
  select.replaceChildren(new Option(all, ""), ...names.map((name) => new Option(name, name)));
  select.value = names.includes(chosen) ? chosen : "";
}

// `kinds` are the classes of columns, such as number or time.
export function table(columns, rows, kinds = {}) {
  const made = element("table"), head = element("tr"), body = element("tbody"), top = element("thead");
  for (const column of columns) head.append(Object.assign(element("th", column, kinds[column]), { scope: "col" }));
  for (const row of rows) {
    const line = element("tr");
    row.forEach((value, index) => {
      const cell = element("td", value instanceof Node ? undefined : spell(value), kinds[columns[index]]);
      if (value instanceof Node) cell.append(value);
      line.append(cell);
    });
    body.append(line);
  }
  top.append(head);
  made.append(top, body);
  return made;
}
