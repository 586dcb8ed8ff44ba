// The findings table: sort, filter, download.

const TABLE = { columns: DATA.table.columns, data: DATA.table.data, count: DATA.table.data.length ? DATA.table.data[0].length : 0, limit: 200 };

function columnOf(name) {
  const i = TABLE.columns.findIndex((c) => c.name === name);
  return i < 0 ? null : TABLE.data[i];
}

const cellText = (column, value) => {
  if (value === null) return "";
  if (column.number) return Number.isInteger(value) ? String(value) : num(value); // ids and positions carry no thousands separator
  return column.name.startsWith("token") ? label(value) : shown(value);
};

const tableTd = (column, text) => el("td", { className: column.number ? "num" : text.length > WORDY ? "wordy" : "" }, el("bdi", { textContent: text }));

function rowPrompt(i) {
  const prompt = columnOf("prompt");
  if (!prompt || prompt[i] === null) return null;
  if (typeof prompt[i] === "number") return prompt[i];
  const index = DATA.prompts.indexOf(prompt[i]);
  return index < 0 ? null : index;
}

function aliveIn(i, layer) {
  const [own, start, life] = ["layer", "start_layer", "lifetime"].map(columnOf);
  if (own) return own[i] === layer;
  return Boolean(start && life) && start[i] !== null && start[i] <= layer && layer < start[i] + life[i];
}

function rowsOfHead(layer, head) {
  const heads = columnOf("head");
  return [...Array(TABLE.count).keys()].filter((i) => aliveIn(i, layer) && (!heads || heads[i] === head));
}

// What was found in one prompt, for marks on its map.
function foundIn(prompt) {
  const [position, kind, start, life] = ["position", "kind", "start_layer", "lifetime"].map(columnOf);
  if (!position) return [];
  const out = [];
  for (let i = 0; i < TABLE.count; i++) {
    if (position[i] === null || (prompt !== null && rowPrompt(i) !== prompt)) continue;
    const span = start && life && start[i] !== null && life[i] !== null ? `, layers ${start[i]} to ${start[i] + life[i] - 1}` : "";
    const name = kind ? kind[i] ?? "" : "";
    out.push({ position: position[i], kind: name, text: `${name || "found"} at position ${position[i]}${span}` });
  }
  return out;
}

// One filter term -> test of a row index.
function term(text) {
  const layer = /^layer:(\d+)$/.exec(text);
  if (layer) return (i) => aliveIn(i, Number(layer[1]));
  const compare = /^([^=<>]+)([=<>])(.*)$/.exec(text);
  const called = (by) => TABLE.columns.findIndex((c) => c[by].toLowerCase() === compare[1].toLowerCase());
  const index = !compare ? -1 : called("name") >= 0 ? called("name") : called("label");
  if (index >= 0) {
    const [, , sign, wanted] = compare;
    const column = TABLE.columns[index];
    const data = TABLE.data[index];
    if (sign === "=") return (i) => data[i] !== null && (column.number && wanted.trim() !== "" ? data[i] === Number(wanted) : label(data[i]).toLowerCase() === wanted.toLowerCase() || String(data[i]).toLowerCase() === wanted.toLowerCase());
    return (i) => data[i] !== null && (sign === "<" ? data[i] < Number(wanted) : data[i] > Number(wanted));
  }
  const needle = text.toLowerCase();
  return (i) => TABLE.columns.some((c, k) => TABLE.data[k][i] !== null && (cellText(c, TABLE.data[k][i]).toLowerCase().includes(needle) || String(TABLE.data[k][i]).toLowerCase().includes(needle)));
}

const facets = () => TABLE.columns.filter((c, k) => !c.number && c.name !== "token" && new Set(TABLE.data[k]).size <= 16 && new Set(TABLE.data[k]).size > 1 && TABLE.data[k].every((v) => v === null || v.length <= WORDY));

function shownRows() {
  const tests = (STATE.filter ?? "").split(/\s+/).filter(Boolean).map(term);
  for (const column of facets()) {
    const wanted = STATE[`only.${column.name}`];
    if (wanted !== undefined) tests.push((i) => String(columnOf(column.name)[i]) === wanted);
  }
  const rows = [...Array(TABLE.count).keys()].filter((i) => tests.every((test) => test(i)));
  const [name, direction] = (STATE.sort ?? "").split(/:(?=asc$|desc$)/);
  const data = columnOf(name);
  if (!data) return rows;
  const sign = direction === "desc" ? -1 : 1;
  const collator = new Intl.Collator("en", { numeric: true });
  return rows.sort((a, b) => {
    if (data[a] === null || data[b] === null) return (data[a] === null) - (data[b] === null); // missing values last, both ways
    return sign * (typeof data[a] === "number" ? data[a] - data[b] : collator.compare(data[a], data[b])) || a - b;
  });
}

function startTable() {
  if (!TABLE.count) {
    $("table-status").textContent = "Nothing was found: the table is empty.";
    return;
  }
  $("table-controls").hidden = $("table-hint").hidden = false;
  $("table-filter").oninput = (event) => { TABLE.limit = 200; setState({ filter: event.target.value }); };
  $("table-clear").onclick = () => setState({ filter: null, sort: null, ...Object.fromEntries(facets().map((c) => [`only.${c.name}`, null])) });
  $("table-facets").append(...facets().map((column) => {
    const select = el("select", { id: `table-only-${column.name}`, onchange: (event) => setState({ [`only.${column.name}`]: event.target.value }) });
    options(select, [["", "all"], ...[...new Set(columnOf(column.name))].filter((v) => v !== null).sort().map((v) => [v, shown(v)])], "");
    return el("label", {}, `${sentence(shown(column.label))} `, select);
  }));
  $("table-csv").onclick = () => save(`${DATA.finder}.csv`, "text/csv;charset=utf-8", csv(shownRows()));
  $("table-json").onclick = () => save(`${DATA.finder}.json`, "application/json", JSON.stringify(records(shownRows()), null, 1));
  $("table-table").tHead.replaceChildren(el("tr", {}, TABLE.columns.map((column) => {
    const button = el("button", { type: "button", textContent: shown(column.label), title: shown(column.help), onclick: () => sortBy(column) });
    return el("th", { scope: "col", className: column.number ? "num" : "" }, button);
  })));
  const body = $("table-table").tBodies[0];
  const pick = (row) => {
    const i = Number(row.dataset.row);
    const position = columnOf("position");
    const [layer, head] = [columnOf("layer"), columnOf("head")];
    setState({
      row: i, prompt: rowPrompt(i) ?? chosenPrompt(), ...(position && position[i] !== null ? { position: position[i] } : {}),
      ...(layer && head && layer[i] !== null && head[i] !== null ? { head: `${layer[i]}.${head[i]}` } : {}),
    });
  };
  body.addEventListener("click", (event) => event.target.closest("tr[data-row]") && pick(event.target.closest("tr")));
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-row]");
    const next = row && { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
    if (next) { event.preventDefault(); row.tabIndex = -1; next.tabIndex = 0; next.focus(); }
    if (row && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); pick(row); }
  });
  onState(["sort", "filter", ...facets().map((c) => `only.${c.name}`)], drawTable);
  onState(["head", "row"], markRows);
  drawTable();
}

function sortBy(column) {
  const [name, direction] = (STATE.sort ?? "").split(/:(?=asc$|desc$)/);
  const first = column.number ? "desc" : "asc";
  const second = column.number ? "asc" : "desc";
  setState({ sort: name !== column.name ? `${column.name}:${first}` : direction === first ? `${column.name}:${second}` : null });
}

function drawTable() {
  const rows = shownRows();
  const [name, direction] = (STATE.sort ?? "").split(/:(?=asc$|desc$)/);
  if ($("table-filter").value !== (STATE.filter ?? "")) $("table-filter").value = STATE.filter ?? "";
  for (const column of facets()) $(`table-only-${column.name}`).value = STATE[`only.${column.name}`] ?? "";
  [...$("table-table").tHead.rows[0].cells].forEach((th, k) => {
    const on = TABLE.columns[k].name === name;
    th.setAttribute("aria-sort", on ? (direction === "desc" ? "descending" : "ascending") : "none");
  });
  $("table-table").tBodies[0].replaceChildren(...rows.slice(0, TABLE.limit).map((i, n) => {
    const tr = el("tr", { tabIndex: n ? -1 : 0 }, TABLE.columns.map((column, k) => tableTd(column, cellText(column, TABLE.data[k][i]))));
    tr.dataset.row = i;
    return tr;
  }));
  const total = DATA.table.total > TABLE.count ? `${TABLE.count.toLocaleString("en")} (of ${DATA.table.total.toLocaleString("en")} found)` : plural(TABLE.count, "row");
  $("table-status").textContent = rows.length === TABLE.count ? `${total}.` : rows.length ? `${rows.length.toLocaleString("en")} of ${total}.` : `No row passes this filter (${total} in all).`;
  const more = rows.length - TABLE.limit;
  $("table-more").replaceChildren(...(more > 0 ? [el("button", { type: "button", textContent: `Show ${plural(Math.min(more, 1000), "more row")}`, onclick: () => { TABLE.limit += 1000; drawTable(); } })] : []));
  markRows();
}

function markRows() {
  const head = chosenHead();
  const alive = new Set(head ? rowsOfHead(...head) : []);
  for (const tr of $("table-table").tBodies[0].rows) {
    tr.classList.toggle("alive", alive.has(Number(tr.dataset.row)));
    if (tr.dataset.row === STATE.row) tr.setAttribute("aria-current", "true");
    else tr.removeAttribute("aria-current");
  }
}

const records = (rows) => rows.map((i) => Object.fromEntries(TABLE.columns.map((column, k) => [column.name, TABLE.data[k][i]])));

const csv = (rows) => csvText(TABLE.columns.map((column) => column.name), rows.map((i) => TABLE.data.map((values) => values[i])));
