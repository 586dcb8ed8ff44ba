// Further tables: sort by a click on a column, more rows on demand, download.

const fileName = (name) => shown(name).replace(/[^\p{L}\p{N}._-]+/gu, "-") || "table";

function sheetCell(column, value) {
  if (value === null) return "";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : num(value);
  return column.name.startsWith("token") ? label(value) : shown(value);
}

function sheetTd(column, value) {
  const text = sheetCell(column, value);
  return el("td", { className: column.number ? "num" : text.length > WORDY ? "wordy" : "" }, el("bdi", { textContent: text }));
}

function startSheets() {
  DATA.sheets.forEach((sheet, i) => {
    const holder = $(`sheet-${i}`);
    const view = { sheet, holder, rows: sheet.rows, limit: 50, column: null, down: true };
    holder.querySelector("thead tr").replaceChildren(...sheet.columns.map((column, k) => el("th", { scope: "col", className: column.number ? "num" : "" },
      el("button", { type: "button", textContent: shown(column.label), title: shown(column.help), onclick: () => sortSheet(view, k) }))));
    holder.querySelector(".buttons").append(
      el("button", { type: "button", className: "more", onclick: () => { view.limit += 500; drawSheet(view); } }), " ",
      el("button", { type: "button", textContent: "CSV", "aria-label": `CSV of ${holder.querySelector("h3").textContent}`, onclick: () => save(`${fileName(sheet.name)}.csv`, "text/csv;charset=utf-8", csvText(sheet.columns.map((c) => c.name), view.rows)) }));
    drawSheet(view);
  });
}

// First click: numbers from the largest, texts from A; second: the other way; third: the order they came in.
function sortSheet(view, k) {
  const first = view.sheet.columns[k].number;
  if (view.column !== k) [view.column, view.down] = [k, first];
  else if (view.down === first) view.down = !first;
  else view.column = null;
  const collator = new Intl.Collator("en", { numeric: true });
  const sign = view.down ? -1 : 1;
  view.rows = view.column === null ? view.sheet.rows : [...view.sheet.rows].sort((a, b) => {
    const [x, y] = [a[k], b[k]];
    if (x === null || y === null) return (x === null) - (y === null); // missing values last, both ways
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y)));
  });
  drawSheet(view);
}

function drawSheet({ sheet, holder, rows, limit, column, down }) {
  [...holder.querySelector("thead tr").cells].forEach((th, k) => th.setAttribute("aria-sort", k !== column ? "none" : down ? "descending" : "ascending"));
  holder.querySelector("tbody").replaceChildren(...rows.slice(0, limit).map((row) =>
    el("tr", {}, row.map((value, k) => sheetTd(sheet.columns[k], value)))));
  const shownNow = Math.min(limit, rows.length);
  holder.querySelector(".count").textContent = shownNow < sheet.total ? `The first ${shownNow.toLocaleString("en")} of ${plural(sheet.total, "row")}${rows.length < sheet.total ? `; this page holds ${rows.length.toLocaleString("en")}` : ""}.` : "";
  const more = holder.querySelector(".more");
  more.hidden = shownNow >= rows.length;
  more.textContent = `Show ${plural(Math.min(500, rows.length - shownNow), "more row")}`;
}
