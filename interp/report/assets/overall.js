// Maps that belong to no prompt, each in a figure of its own.

const overallMaps = () => DATA.heatmaps.filter((m) => m.kind === "other" && m.prompt === null);

function startOverall() {
  const maps = overallMaps();
  if (!maps.length) return;
  showSection("overall");
  $("overall-maps").replaceChildren(...maps.map((map, i) => el("figure", { className: map.values.shape[1] > 64 ? "wide" : "" },
    el("h3", { textContent: shown(map.title) }), el("div", { className: "plot", id: `overall-${i}-plot` }),
    el("details", { className: "behind" }, el("summary", { textContent: "The numbers behind this map" }), el("div", { className: "scroll", id: `overall-${i}-data` })))));
  maps.forEach((map, i) => {
    const [rows, columns] = map.values.shape;
    const name = (c) => (map.columns === null ? String(c * map.pool) : columnName(map, c * map.pool));
    const rowName = (r) => (map.rows === null ? String(r) : shown(DATA.texts[map.rows][r]));
    behind($(`overall-${i}-data`), () => {
      const flat = values(map.values);
      return plainTable([`${map.rowLabel} \\ ${map.columnLabel}`, ...[...Array(columns).keys()].map(name)],
        [...Array(rows).keys()].map((r) => [rowName(r), ...Array.from(flat.subarray(r * columns, (r + 1) * columns))]));
    });
    draw($(`overall-${i}-plot`), () => {
      const width = $(`overall-${i}-plot`).clientWidth || 520;
      const trace = heatTrace(map, (r, c, v) => `${plotText(map.rowLabel)} ${plotText(rowName(r))} · ${plotText(map.columnLabel)} ${plotText(name(c))}<br>${plotText(map.valueLabel)}: ${num(v)}`);
      trace.xgap = trace.ygap = rows * columns <= 1200 ? 1 : 0;
      const ticks = steps(columns, Math.max(4, Math.floor((width - 130) / (map.columns === null ? 28 : 18))));
      if (map.columns !== null) Object.assign(ticks, namesAt(ticks.tickvals, ticks.tickvals.map(name), columns, width - 60));
      else if (map.pool > 1) ticks.ticktext = ticks.tickvals.map((c) => name(c));
      const rowTicks = steps(rows, 20);
      if (map.rows !== null) rowTicks.ticktext = rowTicks.tickvals.map((r) => plotText(rowName(r)));
      return [[trace], {
        height: Math.min(720, Math.max(280, 130 + rows * 11)) + (ticks.tickangle ? 80 : 0), plot_bgcolor: theme().line, // what is blank is grey: neither end of the scale
        xaxis: { title: titled(plotText(map.columnLabel)), showgrid: false, range: [-0.5, columns - 0.5], automargin: true, ...ticks },
        yaxis: { title: titled(plotText(map.rowLabel)), showgrid: false, range: [-0.5, rows - 0.5], automargin: true, ...rowTicks },
      }];
    });
  });
}
