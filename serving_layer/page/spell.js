// How values are written for people.

// Whole numbers that a double cannot hold stay text.
export function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && context && Number.isInteger(value) && !Number.isSafeInteger(value) ? context.source : value);
}

export function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function spell(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((item) => (Array.isArray(item) ? `${item[0]} ${spell(item[1])}` : spell(item))).join(", ") || "–";
  if (typeof value === "object") return Object.entries(value).map(([name, inner]) => `${name} ${spell(inner)}`).join(", ") || "–";
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(6).replace(/\.?0+$/, "");
  return String(value);
}

export const isNumber = (value) => typeof value === "number" || (typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value));
export const toNumber = (value) => (isNumber(value) ? Number(value) : null);
export const spellTime = (text) => (text ? text.replace("T", " ").replace(/(:00)?Z$/, "") : "all time");
export const spellKey = (row, keys) => keys.map((key) => (row[key] === null ? "null" : row[key] === "" ? "(empty)" : spell(row[key]))).join(" · ") || "all";
export const spellCut = (cut) => Object.entries(cut).map(([topic, parts]) => `${topic}: ${Object.values(parts).join(", ")}`).join("; ");
export const offsets = (cut) => Object.values(cut).flatMap((topic) => Object.values(topic)).reduce((sum, offset) => sum + offset, 0);
export const spellCount = new Intl.NumberFormat("en").format;
export const spellShort = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format;
export const spellClock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

export function table(columns, rows, kind) {
  const made = element("table", undefined, kind), head = element("tr"), body = element("tbody");
  for (const [index, column] of columns.entries()) {
    const cell = element("th", column, rows.length && isNumber(rows[0][index]) ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  for (const row of rows) {
    const line = element("tr");
    for (const value of row) {
      const cell = element("td", value instanceof Node ? undefined : spell(value), isNumber(value) ? "number" : "");
      if (value instanceof Node) cell.append(value);
      line.append(cell);
    }
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  made.append(top, body);
  return made;
}
