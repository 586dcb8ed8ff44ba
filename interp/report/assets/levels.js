// Levels: how many found rows share a kind, a start layer and a lifetime.

function startLevels() {
  const start = columnOf("start_layer");
  const life = columnOf("lifetime");
  if (!start || !life || !TABLE.count) return;
  const kind = columnOf("kind");
  const token = columnOf("token");
  const groups = new Map();
  for (let i = 0; i < TABLE.count; i++) {
    if (start[i] === null || life[i] === null) continue;
    const key = [kind ? kind[i] : "found", start[i], life[i]].join("\u0000");
    if (!groups.has(key)) groups.set(key, { kind: kind ? kind[i] ?? "" : "found", start: start[i], life: life[i], count: 0, tokens: new Map() });
    const group = groups.get(key);
    group.count += 1;
    if (token && token[i] !== null) group.tokens.set(token[i], (group.tokens.get(token[i]) ?? 0) + 1);
  }
  const all = [...groups.values()].sort((a, b) => b.count - a.count);
  if (!all.length) return;
  showSection("levels");
  const common = (group) => [...group.tokens].sort((a, b) => b[1] - a[1]).slice(0, 5).map(([text, n]) => `${label(text)} ×${n}`).join("  ");
  behind($("levels-data"), () => plainTable(["kind", "start layer", "lifetime, layers", "rows", "commonest tokens"], all.map((g) => [g.kind, g.start, g.life, g.count, common(g)])));
  const most = all[0].count;
  draw($("levels-plot"), () => [
    [...new Set(all.map((g) => g.kind))].sort((a, b) => kindIndex(a) - kindIndex(b)).map((name) => {
      const own = all.filter((g) => g.kind === name);
      return {
        type: "scatter", mode: "markers+text", name: plotText(name), x: own.map((g) => g.start), y: own.map((g) => g.life), customdata: own.map((g) => all.indexOf(g)),
        text: own.map((g) => (g.count > 1 ? String(g.count) : "")), textposition: "middle center", textfont: { color: "#fff", size: 12 },
        hovertext: own.map((g) => `${plotText(name)}: starts in layer ${g.start}, lasts ${plural(g.life, "layer")}<br>${plural(g.count, "row")}<br>${plotText(common(g))}`), hoverinfo: "text",
        marker: { color: kindColour(name), symbol: kindSymbol(name) === "triangle-down" ? "circle" : kindSymbol(name), opacity: 0.85, size: own.map((g) => 13 + 17 * Math.sqrt(g.count / most)), line: { width: 1, color: theme().paper } },
      };
    }),
    {
      height: 360, showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant" }, margin: { l: 56, r: 12, t: 40, b: 48 },
      xaxis: { title: titled("start layer"), rangemode: "tozero" }, yaxis: { title: titled("lifetime, layers"), rangemode: "tozero" },
    },
  ]).then(() => $("levels-plot").on("plotly_click", (event) => {
    const group = all[event.points[0].customdata];
    setState({ filter: `start_layer=${group.start} lifetime=${group.life}`, ...(kind ? { "only.kind": group.kind } : {}) });
    go("table");
  }));
}
