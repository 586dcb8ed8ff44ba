// Layer x position, one prompt and one measure at a time; what was found is marked above the map.

const positionMaps = () => DATA.heatmaps.filter((m) => m.kind !== "layer-head" && !(m.kind === "other" && m.prompt === null));
const mapKey = (map) => (map.prompt === null ? "all" : String(map.prompt));

function chosenMap() {
  const maps = positionMaps();
  const key = maps.some((m) => mapKey(m) === String(chosenPrompt())) ? String(chosenPrompt()) : mapKey(maps[0]);
  const here = maps.filter((m) => mapKey(m) === key || m.prompt === null);
  return { here, map: here.find((m) => m.group === STATE.measure) ?? here.find((m) => mapKey(m) === key) ?? here[0] };
}

function startMaps() {
  const maps = positionMaps();
  if (!maps.length) return;
  showSection("maps");
  const kept = [...new Set(maps.map((m) => m.prompt).filter((p) => p !== null))];
  options($("maps-prompt"), kept.map((p) => [p, promptName(p)]), chosenPrompt());
  $("maps-prompt").disabled = !kept.length;
  $("maps-prompt").onchange = (event) => setState({ prompt: event.target.value, position: null });
  $("maps-measure").onchange = (event) => setState({ measure: event.target.value });
  $("maps-position").onchange = (event) => setState({ position: event.target.value });
  drawMap().then(() => $("maps-plot").on("plotly_click", (event) => {
    const { map } = chosenMap();
    if (map.kind === "layer-position") setState({ position: Math.round(event.points[0].x) });
  }));
  onState(["prompt", "measure", "position"], drawMap);
}

const columnName = (map, c) => (map.columns === null ? "" : label(DATA.texts[map.columns][c] ?? ""));

function drawMap() {
  const { here, map } = chosenMap();
  const [rows, columns] = map.values.shape;
  const total = map.columns === null ? columns * map.pool : DATA.texts[map.columns].length;
  const byPosition = map.kind === "layer-position";
  if (map.prompt !== null) $("maps-prompt").value = String(map.prompt);
  options($("maps-measure"), here.map((m) => [m.group, shown(m.title)]), map.group);
  $("maps-position").parentElement.hidden = !byPosition;
  $("maps-position").max = total - 1;
  $("maps-position").value = chosenPosition() ?? "";
  const found = byPosition ? foundIn(map.prompt) : [];
  $("maps-caption").textContent = byPosition
    ? `${shown(map.title)}: a bright column is a position that keeps standing out from layer to layer; where it begins and ends is its life. ` +
      (found.length ? "Marks above the map are what was found. Drag to zoom, double-click to zoom out, click for a position's numbers." : "Nothing was found in this prompt.") +
      (map.pool > 1 ? ` Each cell stands for ${map.pool} neighbouring positions and shows the largest.` : "")
    : shown(map.title);
  behind($("maps-data"), () => {
    const flat = values(map.values);
    return plainTable([map.columnLabel, ...[...Array(rows).keys()].map((r) => `${map.rowLabel} ${r}`)],
      [...Array(columns).keys()].map((c) => [`${c * map.pool} ${columnName(map, c * map.pool)}`, ...[...Array(rows).keys()].map((r) => flat[r * columns + c])]));
  });
  showPosition(map, found);
  return draw($("maps-plot"), () => {
    const trace = heatTrace(map, (r, c, v) => {
      const at = c * map.pool;
      const range = map.pool > 1 ? `${at} to ${Math.min(total, at + map.pool) - 1}` : at;
      return `${plotText(map.rowLabel)} ${r} · ${plotText(map.columnLabel)} ${range} ${plotText(columnName(map, at))}<br>${plotText(map.valueLabel)}: ${num(v)}`;
    });
    trace.x0 = (map.pool - 1) / 2;
    trace.dx = map.pool;
    const kinds = [...new Set(found.map((f) => f.kind))].sort((a, b) => kindIndex(a) - kindIndex(b));
    const marks = kinds.map((kind, k) => { // a line of marks for each kind: neighbours of different kinds stay apart
      const own = found.filter((f) => f.kind === kind);
      return {
        type: "scatter", mode: "markers", name: plotText(kind || "found"), x: own.map((f) => f.position), y: own.map(() => rows + 0.3 + k * rows * 0.035), cliponaxis: false,
        text: own.map((f) => plotText(f.text)), hoverinfo: "text", marker: { color: kindColour(kind), symbol: kindSymbol(kind), size: 8, line: { width: 1, color: theme().paper } },
      };
    });
    const at = byPosition ? chosenPosition() : null;
    const line = at === null ? [] : [{ type: "line", x0: at, x1: at, y0: -0.5, y1: rows - 0.5, line: { color: theme().select, width: 1.5, dash: "dot" } }];
    return [[trace, ...marks], {
      height: Math.min(720, Math.max(280, 130 + rows * 11)), shapes: line, showlegend: marks.length > 0,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, margin: { l: 56, r: 12, t: marks.length ? 40 : 12, b: 48 },
      xaxis: { title: titled(plotText(map.columnLabel)), showgrid: false, range: [-0.5 - 0.008 * columns * map.pool, columns * map.pool - 0.5] },
      yaxis: { title: titled(plotText(map.rowLabel)), showgrid: false, range: [-0.5, marks.length ? rows + 0.5 + marks.length * rows * 0.035 : rows - 0.5], ...steps(rows, 16) },
    }];
  });
}

function showPosition(map, found) {
  const at = chosenPosition();
  const [rows, columns] = map.values.shape;
  if (at === null || map.kind !== "layer-position" || at >= columns * map.pool) {
    $("maps-status").textContent = "";
    return;
  }
  const flat = values(map.values);
  const column = [...Array(rows).keys()].map((r) => flat[r * columns + Math.floor(at / map.pool)]);
  const best = column.reduce((b, v, r) => (Number.isFinite(v) && !(column[b] >= v) ? r : b), 0);
  const own = found.filter((f) => f.position === at);
  $("maps-status").textContent =
    `Position ${at} ${columnName(map, at)}: ${shown(map.valueLabel)} is largest in layer ${best} (${num(column[best])}). ` +
    (own.length ? own.map((f) => sentence(shown(f.text))).join("; ") + "." : "Not among what was found.");
}
