// The causal check: found against matched controls, with intervals.

function startCheck() {
  const check = DATA.check;
  if (!check || !check.rows.length) return;
  $("check-figure").hidden = false;
  const rows = check.rows;
  behind($("check-data"), () => el("div", {},
    plainTable(["", "mean", "interval, low", "interval, high"], rows.map((r) => [r.name, r.mean, r.low, r.high])),
    plainTable([check.unit, ...rows.map((r) => r.name)], rows[0].prompts.map((name, i) => [name, ...rows.map((r) => r.points[i])]))));
  draw($("check-plot"), () => [
    rows.flatMap((row) => {
      const kept = row.points.map((x, i) => [x, row.prompts[i]]).filter(([x]) => x !== null);
      const bounded = row.low !== null && row.high !== null;
      return [
        {
          type: "scatter", mode: "markers", showlegend: false, x: kept.map(([x]) => x), y: kept.map(() => row.name), text: kept.map(([x, name]) => `${plotText(name)}: ${num(x)}`), hoverinfo: "text",
          marker: { color: row.colour, symbol: "line-ns-open", size: 14, opacity: 0.55, line: { width: 1.5, color: row.colour } },
        },
        {
          type: "scatter", mode: "markers", showlegend: false, x: [row.mean], y: [row.name], hoverinfo: "text",
          text: [`${row.name}: ${num(row.mean)}${bounded ? ` [${num(row.low)}, ${num(row.high)}]` : ""}`],
          error_x: bounded ? { type: "data", symmetric: false, array: [row.high - row.mean], arrayminus: [row.mean - row.low], color: row.colour, thickness: 3, width: 7 } : { visible: false },
          marker: { color: row.colour, size: 12, line: { width: 1.5, color: theme().paper } },
        },
      ];
    }),
    {
      height: 90 + 56 * rows.length, margin: { l: 130, r: 20, t: 8, b: 48 },
      xaxis: { title: titled(`change in ${plotText(check.metric)}`), zeroline: true, zerolinecolor: theme().soft, zerolinewidth: 1.5 },
      yaxis: { autorange: "reversed", showgrid: false, ticks: "" },
    },
  ]);
}
