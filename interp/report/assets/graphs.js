// Layered graphs: boxes at the height of their layer, curved arrows upwards; places come from interp/report/layers.py.

const GRAPH_ROWS = [66, 48]; // pixels between next layers: of few rows, of more than GRAPH_MANY
const GRAPH_MANY = 12;
const GRAPH_BOX = 26; // height of a box, pixels
const GRAPH_WIDE = 0.8; // width of a box, of a column
const GRAPH_POINTS = 12; // along an arrow, from row to row

function startGraphs() {
  DATA.graphs.forEach((graph, i) => {
    const plot = $(`graph-${i}-plot`);
    plot.hidden = false;
    draw(plot, () => graphParts(graph, plot.clientWidth || 800)).then(() => plot.on("plotly_click", (event) => {
      const name = event.points[0].customdata;
      if (headOf(name)) setState({ head: name });
    }));
    onState(["head"], () => draw(plot, DRAWN.get(plot)));
    const rows = graph.edges.map((edge) => [labelOf(graph, edge.source), labelOf(graph, edge.target), edge.weight, edge.label]);
    const head = ["from", "to", graph.weightLabel, ""];
    $(`graph-${i}`).querySelector(".buttons").append(el("button", {
      type: "button", textContent: "CSV", "aria-label": `CSV of ${shown(graph.title)}`,
      onclick: () => save(`${fileName(graph.name)}.csv`, "text/csv;charset=utf-8", csvText(["from", "to", "weight", "label"], rows)),
    }));
    if (rows.length > DATA.graphRows) behind($(`graph-${i}-data`), () => plainTable(head, rows));
  });
}

// A box that is a head of the layer x head maps: a click selects it there.
const headOf = (name) => (headMaps().length && /^\d+\.\d+$/.test(name ?? "") ? name : null);
const labelOf = (graph, name) => graph.nodes.find((node) => node.name === name).label;

function graphParts(graph, width) {
  const t = theme();
  const margin = { l: 44, r: 8, t: 34, b: 12 };
  const column = (width - margin.l - margin.r) / graph.columns;
  const top = Math.max(...graph.rows.map(([y]) => y));
  const row = GRAPH_ROWS[graph.rows.length > GRAPH_MANY ? 1 : 0];
  const height = margin.t + margin.b + row * (top + 1);
  const pixel = 1 / row; // of y
  const half = (GRAPH_BOX / 2) * pixel;
  const most = Math.max(...graph.edges.map((edge) => Math.abs(edge.weight ?? 0)), 1e-12);
  const wide = (edge) => 1 + (5 * Math.abs(edge.weight ?? 0)) / most;
  const sign = (edge) => ((edge.weight ?? 0) < 0 ? DATA.colours.negative : DATA.colours.positive);
  const tip = (edge) => 6 + 1.6 * wide(edge); // size of the arrowhead, pixels
  const chosen = chosenHead()?.join(".");
  // The heaviest last, so that it lies on top.
  const edges = [...graph.edges].sort((a, b) => Math.abs(a.weight ?? 0) - Math.abs(b.weight ?? 0));
  const lines = edges.map((edge) => {
    const [x, y] = curve(edge.path, half, 0.7 * tip(edge) * pixel);
    const touched = chosen === undefined || !graph.nodes.some((node) => node.name === chosen) || edge.source === chosen || edge.target === chosen;
    const text = `${plotText(short(labelOf(graph, edge.source), 60))} → ${plotText(short(labelOf(graph, edge.target), 60))}${edge.label ? `, ${plotText(edge.label)}` : ""}<br>${plotText(graph.weightLabel)}: ${num(edge.weight)}`;
    return { type: "scatter", mode: "lines", x, y, hoverinfo: "text", text, showlegend: false, opacity: touched ? 0.8 : 0.15, line: { color: sign(edge), width: wide(edge), dash: (edge.weight ?? 0) < 0 ? "dash" : "solid" }, hoverlabel: { bordercolor: sign(edge) } };
  });
  const heads = {
    type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, x: edges.map((edge) => edge.path.at(-1)[0]), y: edges.map((edge) => edge.path.at(-1)[1] - half - 0.4 * tip(edge) * pixel),
    marker: { symbol: "triangle-up", size: edges.map(tip), color: edges.map(sign), opacity: 1, line: { width: 0 } },
  };
  const boxes = graph.nodes.map((node) => ({
    type: "rect", layer: "above", x0: node.at[0] - GRAPH_WIDE / 2, x1: node.at[0] + GRAPH_WIDE / 2, y0: node.at[1] - half, y1: node.at[1] + half, fillcolor: graph.kinds[node.kind].colour,
    line: { color: node.name === chosen ? t.select : t.paper, width: node.name === chosen ? 3 : 1 },
  }));
  const size = Math.max(8, Math.min(12, Math.floor(column / 4))); // of the names, pixels
  const letters = Math.max(3, Math.floor((column * GRAPH_WIDE - 2) / (0.6 * size)));
  const names = graph.nodes.map((node) => ({ x: node.at[0], y: node.at[1], text: plotText(short(shown(node.label), letters)), showarrow: false, captureevents: false, font: { size, color: graph.kinds[node.kind].ink } }));
  const points = {
    type: "scatter", mode: "markers", showlegend: false, hoverinfo: "text", x: graph.nodes.map((node) => node.at[0]), y: graph.nodes.map((node) => node.at[1]), customdata: graph.nodes.map((node) => node.name),
    marker: { size: GRAPH_BOX, opacity: 0, color: graph.nodes.map((node) => graph.kinds[node.kind].colour) },
    text: graph.nodes.map((node) => [`<b>${plotText(short(node.label, 80))}</b>`, plotText(graph.kinds[node.kind].name), ...(node.note ? lined(node.note) : []), ...(headOf(node.name) ? ["click to select"] : [])].join("<br>")),
  };
  const there = new Set(graph.nodes.map((node) => node.kind));
  const legend = graph.kinds.filter((_, i) => there.has(i) && i > 0).map((kind) => ({ type: "scatter", mode: "markers", x: [null], y: [null], name: plotText(short(kind.name, 40)), hoverinfo: "skip", marker: { symbol: "square", size: 13, color: kind.colour } }));
  for (const [name, colour, dash, any] of [["positive", DATA.colours.positive, "solid", (w) => w >= 0], ["negative", DATA.colours.negative, "dash", (w) => w < 0]]) {
    if (graph.edges.some((edge) => any(edge.weight ?? 0))) legend.push({ type: "scatter", mode: "lines", x: [null], y: [null], name, hoverinfo: "skip", line: { color: colour, width: 3, dash } });
  }
  const long = legend.reduce((sum, trace) => sum + trace.name.length * 7 + 46, 0);
  const extra = 22 * Math.max(0, Math.ceil(long / Math.max(width - 60, 200)) - 1);
  return [[...lines, heads, points, ...legend], {
    height: height + extra, shapes: boxes, annotations: names, hovermode: "closest", showlegend: legend.length > 0, margin: { ...margin, t: margin.t + extra }, dragmode: false,
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
    xaxis: { visible: false, range: [-0.5, graph.columns - 0.5], fixedrange: true },
    yaxis: { title: titled("layer"), showgrid: true, range: [-0.5, top + 0.5], fixedrange: true, tickmode: "array", tickvals: graph.rows.filter(([, name]) => name).map(([y]) => y), ticktext: graph.rows.filter(([, name]) => name).map(([, name]) => name), ticks: "" },
  }];
}

// Cubic curves from row to row that leave, pass and arrive upright; `half` = half a box's height, `tip` = the arrowhead's.
function curve(path, half, tip) {
  const x = [];
  const y = [];
  for (let i = 1; i < path.length; i++) {
    const [[x0, low], [x1, high]] = [path[i - 1], path[i]];
    const [y0, y1] = [low + half, high - half - (i === path.length - 1 ? tip : 0)];
    const middle = (y0 + y1) / 2;
    for (let k = 0; k <= GRAPH_POINTS; k++) {
      const s = k / GRAPH_POINTS;
      const [a, b, c, d] = [(1 - s) ** 3, 3 * s * (1 - s) ** 2, 3 * s * s * (1 - s), s ** 3];
      x.push((a + b) * x0 + (c + d) * x1);
      y.push(a * y0 + (b + c) * middle + d * y1);
    }
  }
  return [x, y];
}

// Long text in lines of some 60 letters; line breaks of its own are kept.
function lined(text) {
  const lines = [""];
  for (const part of String(text).split("\n").map((line) => line.split(" "))) {
    for (const word of part) {
      if (lines.at(-1).length + word.length > 60 && lines.at(-1)) lines.push("");
      lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
    }
    lines.push("");
  }
  return lines.filter(Boolean).slice(0, 12).map((line) => plotText(short(line, 200)));
}
