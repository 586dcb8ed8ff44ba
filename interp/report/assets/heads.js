// Layer x head: a click or the arrow keys select a head; its card says what it scored and where to look next.

const headMaps = () => DATA.heatmaps.filter((m) => m.kind === "layer-head");

function chosenHead() {
  const match = /^(\d+)\.(\d+)$/.exec(STATE.head ?? "");
  return match ? [Number(match[1]), Number(match[2])] : null;
}

function chosenScore() {
  const maps = headMaps();
  return maps.find((m) => m.name === STATE.score) ?? maps[0];
}

function startHeads() {
  const maps = headMaps();
  if (!maps.length) return;
  showSection("heads");
  const [layers, heads] = maps[0].values.shape;
  options($("heads-score"), maps.map((m) => [m.name, shown(m.title)]), chosenScore().name);
  const none = [["", "none"]];
  options($("head-layer"), none.concat([...Array(layers).keys()].map((i) => [i, i])), "");
  options($("head-head"), none.concat([...Array(heads).keys()].map((i) => [i, i])), "");
  $("heads-score").onchange = (event) => setState({ score: event.target.value });
  const pick = () => {
    const [layer, head] = [$("head-layer").value, $("head-head").value];
    setState({ head: layer === "" || head === "" ? null : `${layer}.${head}` });
  };
  $("head-layer").onchange = () => { if ($("head-head").value === "") $("head-head").value = "0"; pick(); };
  $("head-head").onchange = () => { if ($("head-layer").value === "") $("head-layer").value = "0"; pick(); };
  const plot = $("heads-plot");
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") setState({ head: null });
    if (!step) return;
    event.preventDefault();
    const from = chosenHead() ?? [step[0] ? -step[0] : 0, step[1] ? -step[1] : 0];
    const [rows, columns] = chosenScore().values.shape;
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));
    setState({ head: `${clamp(from[0] + step[0], rows)}.${clamp(from[1] + step[1], columns)}` });
  });
  drawHeads().then(() => plot.on("plotly_click", (event) => setState({ head: `${event.points[0].y}.${event.points[0].x}` })));
  onState(["score", "head"], drawHeads);
  onState(["head", "prompt"], showHead);
  showHead();
}

function drawHeads() {
  const map = chosenScore();
  const [rows, columns] = map.values.shape;
  $("heads-score").value = map.name;
  $("heads-caption").textContent =
    `${shown(map.title)}: one cell a head, layer 0 at the bottom. ` +
    (map.categories.length ? "Letters and colours are those of the legend." : "Look for layers that differ from those below and for single heads that stand out from their row.") +
    (values(map.values).some(Number.isNaN) ? " Blank = not measured." : "");
  behind($("heads-data"), () => {
    const flat = values(map.values);
    return plainTable([`${map.rowLabel} \\ ${map.columnLabel}`, ...Array(columns).keys()],
      [...Array(rows).keys()].map((r) => [r, ...Array.from(flat.subarray(r * columns, (r + 1) * columns), (v) => (map.categories.length ? valueText(map, v) : v))]));
  });
  return draw($("heads-plot"), () => {
    const chosen = chosenHead();
    const inside = chosen && chosen[0] < rows && chosen[1] < columns;
    const box = inside ? [{ type: "rect", x0: chosen[1] - 0.5, x1: chosen[1] + 0.5, y0: chosen[0] - 0.5, y1: chosen[0] + 0.5, line: { color: theme().select, width: 3 } }] : [];
    const trace = heatTrace(map, (r, c, v) => `head ${r}.${c} (layer ${r}, head ${c})<br>${plotText(map.valueLabel)}: ${plotText(valueText(map, v))}<br>click to select`);
    trace.xgap = trace.ygap = rows * columns <= 1200 ? 1 : 0;
    return [[trace], {
      height: Math.min(820, Math.max(260, 110 + rows * 15)), shapes: box,
      xaxis: { title: titled(plotText(map.columnLabel)), showgrid: false, range: [-0.5, columns - 0.5], ...steps(columns, 20) },
      yaxis: { title: titled(plotText(map.rowLabel)), showgrid: false, range: [-0.5, rows - 0.5], ...steps(rows, 25) },
    }];
  });
}

// Patterns of this head (or of its layer's mean) that the page holds, as [strip index, label].
function patternsOf(layer, head) {
  const wanted = [`${layer}.${head}`, `mean of layer ${layer}`];
  const out = [];
  DATA.strips.forEach((strip, i) => wanted.forEach((name) => name in strip.patterns && out.push([i, name])));
  return out;
}

function showHead() {
  const chosen = chosenHead();
  $("head-layer").value = chosen ? chosen[0] : "";
  $("head-head").value = chosen ? chosen[1] : "";
  const card = $("head-card");
  if (!chosen) {
    card.replaceChildren(el("p", { className: "empty", textContent: "Select a head: click a cell, use the arrow keys on the map, or the two lists above." }));
    return;
  }
  const [layer, head] = chosen;
  const facts = headMaps().map((map) => {
    const [rows, columns] = map.values.shape;
    if (layer >= rows || head >= columns) return null;
    const flat = values(map.values);
    const value = flat[layer * columns + head];
    const measured = flat.filter((v) => !Number.isNaN(v));
    const rank = 1 + measured.filter((v) => v > value).length;
    const text = Number.isNaN(value) ? "not measured" : map.categories.length ? valueText(map, value) : `${num(value)} · rank ${rank} of ${measured.length.toLocaleString("en")} heads`;
    return el("div", {}, el("dt", { textContent: shown(map.title) }), el("dd", { textContent: text }));
  });
  const here = rowsOfHead(layer, head);
  const [what, filter] = columnOf("head") ? ["about this head", `layer:${layer} head=${head}`] : [`alive in layer ${layer}`, `layer:${layer}`];
  const layered = columnOf("layer") ?? columnOf("start_layer"); // a table of runs says nothing of heads
  const rows = layered && el("p", {}, here.length ? `${plural(here.length, "row")} of the table ${here.length === 1 ? "is" : "are"} ${what}, marked there. ` : `No row of the table is ${what}.`);
  if (here.length) rows.append(el("button", { type: "button", textContent: "Show only these", onclick: () => { setState({ filter }); go("table"); } }));
  const found = patternsOf(layer, head);
  const pattern = found.find(([i]) => DATA.strips[i].prompt === chosenPrompt()) ?? found[0];
  const strip = el("p", {}, pattern ? "Its attention pattern is kept. " : "No full pattern of this head or layer is kept in this page.");
  if (pattern) strip.append(el("button", { type: "button", textContent: "See it on the tokens", onclick: () => { setState({ prompt: DATA.strips[pattern[0]].prompt, pattern: pattern[1] }); go("tokens"); } }));
  card.replaceChildren(el("h3", { textContent: `Head ${layer}.${head}` }), el("dl", {}, facts), rows ?? "", strip);
}
