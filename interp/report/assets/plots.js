// Drawing with plotly: theme from the page's CSS, no global template.

const DRAWN = new Map(); // element -> function that draws it again

function theme() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(name).trim();
  return { ink: get("--ink"), soft: get("--soft"), line: get("--line"), select: get("--select"), paper: get("--paper"), middle: get("--middle"), font: getComputedStyle(document.body).fontFamily };
}

function layout(extra) {
  const t = theme();
  const axis = { color: t.soft, gridcolor: t.line, linecolor: t.line, zeroline: false, ticks: "outside", tickcolor: t.line };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: t.font, size: 13, color: t.ink },
    margin: { l: 56, r: 12, t: 12, b: 48 }, hoverlabel: { bgcolor: t.paper, bordercolor: t.line, font: { color: t.ink, family: t.font }, align: "left" },
    ...extra, xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis },
  };
}

function draw(div, make) {
  DRAWN.set(div, make);
  const [traces, extra] = make();
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"], toImageButtonOptions: { scale: 2 } };
  return Plotly.react(div, traces, layout(extra), config);
}

const titled = (text) => ({ text, standoff: 8, font: { size: 13 } });
// Whole numbers 0 .. count-1 with room for each; never a number that is no layer or head.
function steps(count, most) {
  const by = [1, 2, 5, 10, 20, 50, 100].find((step) => count / step <= most) ?? 200;
  return { tickmode: "array", tickvals: [...Array(Math.ceil(count / by)).keys()].map((i) => i * by) };
}

function redrawAll() {
  for (const [div, make] of DRAWN) draw(div, make);
}

// What a value of a map reads as: a number, or the name of its kind.
const valueText = (map, v) => (map.categories.length && Number.isFinite(v) ? shown(map.categories[v]) : num(v));

function scaleOf(map) {
  if (map.categories.length) return map.steps;
  const diverging = map.scale.low < 0;
  if (!diverging) return DATA.colours.sequential;
  return DATA.colours.diverging.map(([at, colour]) => [at, at === 0.5 ? theme().middle : colour]);
}

// The heatmap trace of a map: `hover(row, column, value)` gives already escaped text.
function heatTrace(map, hover) {
  const [rows, columns] = map.values.shape;
  const flat = values(map.values);
  const log = map.scale.log;
  const z = [];
  const text = [];
  for (let r = 0; r < rows; r++) {
    const row = flat.subarray(r * columns, (r + 1) * columns);
    z.push(Array.from(row, (v) => (Number.isFinite(v) ? (log ? (v > 0 ? Math.log10(v) : null) : v) : null)));
    text.push(Array.from(row, (v, c) => hover(r, c, v)));
  }
  const ends = log ? [Math.log10(map.scale.low), Math.log10(map.scale.high)] : [map.scale.low, map.scale.high];
  const bar = { title: { text: plotText(map.valueLabel) + (log ? " (log scale)" : ""), side: "right", font: { size: 13 } }, thickness: 11, outlinewidth: 0, tickcolor: theme().line };
  if (log) {
    bar.tickvals = [0, 1, 2, 3, 4].map((i) => ends[0] + ((ends[1] - ends[0]) * i) / 4);
    bar.ticktext = bar.tickvals.map((v) => num(10 ** v, 2));
  }
  const kinds = {};
  if (map.categories.length) {
    Object.assign(bar, { title: { text: "" }, tickvals: map.categories.map((_, i) => i), ticktext: map.categories.map((name, i) => plotText(map.letters[i] ? `${map.letters[i]}  ${name}` : name)), ticks: "" });
    Object.assign(kinds, { hovertext: text, text: z.map((row) => row.map((v) => map.letters[v] ?? "")) });
    if (rows * columns <= 1200) kinds.texttemplate = "%{text}";
  }
  return { type: "heatmap", z, text, hoverinfo: "text", zmin: ends[0], zmax: ends[1], colorscale: scaleOf(map), colorbar: bar, hoverongaps: false, ...kinds };
}

const KIND_SYMBOLS = ["triangle-down", "circle", "square", "diamond", "cross", "x"];
const KINDS = [];
// Each kind keeps its colour, symbol and underline in every plot, in order of first appearance.
function kindIndex(kind) {
  if (!KINDS.includes(kind)) KINDS.push(kind);
  return KINDS.indexOf(kind);
}
const kindColour = (kind) => DATA.colours.categories[kindIndex(kind) % DATA.colours.categories.length];
const kindSymbol = (kind) => KIND_SYMBOLS[kindIndex(kind) % KIND_SYMBOLS.length];
