// Start-up: inflate, restore the view from the URL, draw, and follow the theme.

function go(id) {
  $(id).scrollIntoView({ block: "start" });
  $(id).focus({ preventScroll: true });
}

function watchTheme() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redrawAll(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redrawAll(); });
}

async function start() {
  document.querySelectorAll("nav a, a.skip").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    go(link.getAttribute("href").slice(1));
  }));
  restoreState();
  $("provenance-json").hidden = false;
  $("provenance-json").onclick = () =>
    save("provenance.json", "application/json", JSON.stringify({ verdict: DATA.verdict, summary: DATA.summary, provenance: DATA.provenance }, null, 1));
  BLOCK = await inflate("arrays");
  (columnOf("kind") ?? []).forEach((kind) => kind !== null && kindIndex(kind));
  DATA.strips.forEach((strip) => Object.values(strip.marks).forEach(kindIndex));
  startTable();
  startSheets();
  startStrip();
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await inflate("plotly"));
  document.head.append(script);
  startCheck();
  startGraphs();
  startCharts();
  startHeads();
  startMaps();
  startLevels();
  startOverall();
  watchTheme();
  addEventListener("hashchange", restoreState);
  document.body.dataset.ready = "true";
}

start().catch((error) => {
  $("problem").hidden = false;
  $("problem").textContent = `The maps could not be drawn (${error.message}). A browser from 2023 or newer is needed; the verdict, the table's first rows and the provenance are below all the same.`;
  console.error(error);
});
