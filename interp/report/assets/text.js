// Untrusted text: shown through textContent only; plotly labels are escaped because plotly reads them as pseudo-HTML.

const NAMED = { "\n": "⏎", "\r": "␍", "\t": "⇥" };

function shown(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu, (c) => {
    if (c === "\u200d" || c === "\ufe0f") return c;
    return NAMED[c] || "\\u" + c.codePointAt(0).toString(16).padStart(4, "0");
  });
}

const label = (token) => shown(token).replaceAll(" ", "␣") || "∅";

function plotText(text) {
  return shown(text)
    .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll("%{", "%&#123;").replaceAll("$", "&#36;");
}

function num(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "n/a";
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(digits - 1);
  if (size >= 10 ** (digits - 1)) return Math.round(value).toLocaleString("en");
  return value.toPrecision(digits);
}

const WORDY = 40; // letters from which a cell of a table may break into lines
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// An element: properties, then children (strings become text nodes). Keys with a dash are attributes.
function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key.includes("-") || key === "role" || key === "scope") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

function options(select, items, chosen) {
  select.replaceChildren(...items.map(([value, text]) => el("option", { value: String(value), textContent: text })));
  select.value = String(chosen);
}

// A plain table: `head` = column names, `rows` = arrays of strings or numbers; the first column is the row's name.
function plainTable(head, rows) {
  const cell = (value, i) =>
    i === 0 ? el("th", { scope: "row", textContent: shown(value) })
      : el("td", { className: typeof value === "number" ? "num" : "", textContent: typeof value === "number" ? num(value) : shown(value ?? "n/a") });
  return el("table", {},
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col", textContent: shown(name) })))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))));
}

// Fill a <details> block when it is first opened and again whenever `fill` changes while it is open.
function behind(holder, fill) {
  const details = holder.closest("details");
  holder.fill = fill;
  if (!holder.watched) {
    holder.watched = true;
    details.addEventListener("toggle", () => details.open && holder.replaceChildren(holder.fill()));
  }
  if (details.open) holder.replaceChildren(fill());
}

// RFC 4180; text that a spreadsheet would run as a formula gets a leading apostrophe.
function csvText(head, rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value !== "number" && /^\s*[=+\-@]/.test(text)) text = "'" + text;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...rows].map((line) => line.map(cell).join(",") + "\r\n").join("");
}

// A section that only scripts can fill, and its link: both stay hidden where there is nothing to show.
function showSection(id) {
  $(id).hidden = false;
  document.querySelector(`nav a[href="#${id}"]`).hidden = false;
}

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
