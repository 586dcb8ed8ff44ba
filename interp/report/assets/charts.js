// Measured curves: lines with their interval as a band, points with error bars, bars; marks and a dashed reference.

const LINE_DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const MARK_LETTERS = 24; // of a mark's text beside its line; hovering tells all
const NAME_LETTERS = 26; // of a name on an axis
const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

function startCharts() {
  DATA.charts.forEach((chart, i) => {
    const plot = $(`chart-${i}-plot`);
    plot.hidden = false;
    draw(plot, () => chartParts(chart, plot.clientWidth || 520));
    const head = ["series", chart.xLabel, ...(chart.xNames.length ? ["name"] : []), chart.yLabel, "low", "high", "label"];
    const rows = chartRows(chart);
    $(`chart-${i}`).querySelector(".buttons").append(el("button", {
      type: "button", textContent: "CSV", "aria-label": `CSV of ${shown(chart.title)}`,
      onclick: () => save(`${fileName(chart.name)}.csv`, "text/csv;charset=utf-8", csvText(head, rows)),
    }));
    if (rows.length > DATA.chartRows) behind($(`chart-${i}-data`), () => plainTable(head, rows));
  });
}

const xName = (chart, x) => chart.xNames[x] ?? null;

function chartRows(chart) {
  return chart.series.flatMap((s) => s.x.map((x, k) =>
    [s.name, x, ...(chart.xNames.length ? [xName(chart, x)] : []), s.y[k], s.low[k] ?? null, s.high[k] ?? null, s.labels[k] ?? null]));
}

function chartParts(chart, width) {
  const t = theme();
  const several = chart.series.length > 1;
  const drawable = (value, log) => (value === null || value === undefined || (log && value <= 0) ? null : value);
  const positive = chart.series.flatMap((s) => [...s.y, ...s.low, ...s.high]).filter((v) => v > 0);
  const least = Math.min(...positive); // where an interval that reaches zero is cut on a logarithmic axis
  const ends = (list) => list.map((v) => (v === null ? null : chart.logY ? Math.max(v, least) : v));
  const traces = chart.series.flatMap((s, i) => chartTraces(chart, s, i, drawable, ends, several));
  const flat = chart.series.flatMap((s) => s.x.map((x, k) => [drawable(x, chart.logX), drawable(s.y[k], chart.logY)])).filter(([x, y]) => x !== null && y !== null);
  const marks = mergedMarks(chart).filter(([x]) => !chart.logX || x > 0);
  const equal = drawable(chart.equal, chart.logY);
  if (flat.length) { // unseen points: they give the marks a hover text and keep them and the dashed line within the axes
    const top = Math.max(...flat.map(([, y]) => y));
    traces.push({
      type: "scatter", mode: "markers", showlegend: false, hoverinfo: "text", marker: { size: 10, opacity: 0 },
      x: [...marks.map(([x]) => x), ...(equal === null ? [] : [flat[0][0]])], y: [...marks.map(() => top), ...(equal === null ? [] : [equal])],
      text: [...marks.map(([x, text]) => `${plotText(chart.xLabel)} ${num(x)}: ${plotText(text)}`), ...(equal === null ? [] : [`dashed: ${num(equal)}`])],
    });
  }
  const shapes = marks.map(([x]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: t.soft, width: 1, dash: "dot" } }));
  if (equal !== null) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: equal, y1: equal, line: { color: t.ink, width: 1.2, dash: "dash" } });
  const names = chart.series.map((s) => short(s.name, 40).length * 7 + 46);
  const lines = several ? Math.ceil(names.reduce((a, b) => a + b, 0) / Math.max(width - 80, 200)) : 0;
  const texts = markTexts(chart, marks, width);
  const level = texts.length > 0 && texts[0].textangle === 0;
  const zone = level ? 20 : marks.length ? 12 + 6 * Math.min(MARK_LETTERS, Math.max(...marks.map(([, text]) => text.length))) : 0; // above the data, for texts
  const ticks = nameTicks(chart, width);
  const slanting = ticks.tickangle ? 4.5 * Math.max(...chart.xNames.map((name) => Math.min(name.length, NAME_LETTERS))) : 0; // below the data
  return [traces, {
    height: 330 + 22 * lines + zone + slanting, shapes, annotations: texts, barmode: "group", hovermode: "closest",
    showlegend: several, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, margin: { l: 64, r: 12, t: several ? 20 + 22 * lines : 12, b: 52 },
    xaxis: { title: titled(plotText(short(chart.xLabel, Math.floor(width / 9)))), automargin: true, ...scaling(chart.logX, flat.map(([x]) => x)), ...ticks },
    yaxis: { title: titled(plotText(short(chart.yLabel, 40))), automargin: true, domain: [0, 1 - zone / (265 + zone)], ...scaling(chart.logY, flat.map(([, y]) => y)) },
  }];
}

// A logarithmic axis over two powers of ten or more is labelled at the powers alone.
function scaling(log, drawn) {
  if (!log) return { type: "linear" };
  return Math.max(...drawn) / Math.min(...drawn) >= 100 ? { type: "log", dtick: 1 } : { type: "log" };
}

function chartTraces(chart, s, i, drawable, ends, several) {
  const colours = DATA.colours.categories;
  const colour = s.colour;
  const x = s.x.map((v) => drawable(v, chart.logX));
  const y = s.y.map((v) => drawable(v, chart.logY));
  const low = ends(s.low);
  const high = ends(s.high);
  const bounded = y.map((v, k) => v !== null && x[k] !== null && (low[k] ?? null) !== null && (high[k] ?? null) !== null);
  const text = s.x.map((v, k) => hoverOf(chart, s, k));
  const name = plotText(short(s.name, 40));
  const bars = (which) => ({
    type: "data", symmetric: false, color: s.draw === "bars" ? theme().ink : colour, thickness: 1.4, width: 4,
    array: y.map((v, k) => (which(k) ? Math.max(high[k] - v, 0) : null)), arrayminus: y.map((v, k) => (which(k) ? Math.max(v - low[k], 0) : null)),
  });
  const common = { name, x, y, text, hoverinfo: "text", legendgroup: String(i), showlegend: several };
  const symbol = ["circle", "square", "diamond", "triangle-up", "cross", "x"][i % 6];
  if (s.draw === "bars") return [{ ...common, type: "bar", textposition: "none", marker: { color: colour, line: { color: theme().paper, width: 1 } }, error_y: bars((k) => bounded[k]) }];
  if (s.draw === "points") return [{ ...common, type: "scatter", mode: "markers", marker: { color: colour, symbol, size: s.x.length > 400 ? 4 : 8, opacity: s.x.length > 100 ? 0.55 : 0.9 }, error_y: bars((k) => bounded[k]) }];
  const dotted = s.x.length <= 60;
  const dash = LINE_DASHES[(dotted ? Math.floor(i / colours.length) : i) % LINE_DASHES.length];
  const alone = (k) => bounded[k] && !bounded[k - 1] && !bounded[k + 1]; // a band needs two points
  const line = { ...common, type: "scatter", mode: dotted ? "lines+markers" : "lines", connectgaps: false, line: { color: colour, width: 2, dash }, marker: { color: colour, symbol, size: 6 }, error_y: bars(alone) };
  const band = { x: [], y: [] };
  for (let k = 0; k < x.length; k++) {
    if (!bounded[k] || bounded[k - 1]) continue;
    let end = k;
    while (bounded[end + 1]) end++;
    for (let j = k; j <= end; j++) { band.x.push(x[j]); band.y.push(high[j]); }
    for (let j = end; j >= k; j--) { band.x.push(x[j]); band.y.push(low[j]); }
    band.x.push(null); band.y.push(null);
  }
  if (!band.x.length) return [line];
  return [{ type: "scatter", mode: "lines", ...band, fill: "toself", fillcolor: colour + "33", line: { width: 0 }, hoverinfo: "skip", legendgroup: String(i), showlegend: false }, line];
}

function hoverOf(chart, s, k) {
  const at = xName(chart, s.x[k]);
  const interval = (s.low[k] ?? null) !== null && (s.high[k] ?? null) !== null ? ` [${num(s.low[k])}, ${num(s.high[k])}]` : "";
  const lines = [`<b>${plotText(short(s.name, 80))}</b>`, `${plotText(chart.xLabel)}: ${at === null ? num(s.x[k]) : plotText(at)}`, `${plotText(chart.yLabel)}: ${num(s.y[k])}${interval}`];
  if (s.labels[k]) lines.push(plotText(s.labels[k]));
  return lines.join("<br>");
}

// Marks at one x share a line and a text.
function mergedMarks(chart) {
  const at = new Map();
  for (const [x, text] of chart.marks) at.set(x, at.has(x) ? `${at.get(x)}; ${text}` : text);
  return [...at].sort((a, b) => a[0] - b[0]);
}

// Level texts above the data where there is room for all; else upright ones beside the marks, as many as do not run into each other. Hovering tells all of them.
function markTexts(chart, marks, width) {
  const scaled = (x) => (chart.logX ? Math.log10(x) : x);
  const all = [...chart.series.flatMap((s) => s.x), ...marks.map(([x]) => x)].filter((x) => !chart.logX || x > 0).map(scaled);
  const least = Math.min(...all);
  const pixels = (width - 90) / Math.max(Math.max(...all) - least, 1e-9);
  const font = { size: 11, color: theme().soft };
  const told = marks.map(([x, text]) => [scaled(x), short(text, MARK_LETTERS)]);
  const room = told.map(([x], i) => ((told[i + 1]?.[0] ?? Math.max(...all)) - x) * pixels);
  const size = (text) => 6.5 * text.length + 8;
  if (told.length === 1 || told.every(([, text], i) => size(text) <= room[i])) return told.map(([x, text], i) => ({
    x, y: 1, yref: "paper", xanchor: size(text) <= room[i] ? "left" : "right", yanchor: "top", textangle: 0, showarrow: false, text: plotText(text), font,
  }));
  let last = -Infinity;
  return marks.filter(([x]) => {
    const at = scaled(x) * pixels;
    if (at - last < 15) return false;
    last = at;
    return true;
  }).map(([x, text]) => ({
    x: scaled(x), y: 1, yref: "paper", xanchor: "right", yanchor: "top", textangle: -90, showarrow: false, text: plotText(short(text, MARK_LETTERS)),
    font,
  }));
}

// Names in the place of 0, 1, 2, ...: every one, or every n-th where they would touch.
function nameTicks(chart, width) {
  const count = chart.xNames.length;
  if (!count) return {};
  const by = Math.max(1, Math.ceil((count * 18) / Math.max(width - 90, 100)));
  const kept = [...Array(count).keys()].filter((k) => k % by === 0);
  const named = namesAt(kept, kept.map((k) => chart.xNames[k]), count, width);
  return { range: [-0.5, count - 0.5], ...named };
}

// Ticks with names: level where they fit beside each other, else slanting to the lower left.
function namesAt(tickvals, names, count, width) {
  const cut = names.map((name) => short(name, NAME_LETTERS));
  const room = (width - 90) / count;
  const slant = cut.some((name) => name.length * 7 + 8 > room * (count / cut.length));
  return { tickmode: "array", tickvals, ticktext: cut.map(plotText), tickangle: slant ? -40 : 0, ticklabeloverflow: "allow" };
}
