// The token strip: shaded by weight at rest; hover or focus a token and the keys it attends to are shaded instead.

const STRIP = { index: -1, nodes: [], hover: null };

function chosenStrip() {
  const i = DATA.strips.findIndex((s) => s.prompt === chosenPrompt());
  return i < 0 ? 0 : i;
}

function chosenPattern(strip) {
  const names = Object.keys(strip.patterns);
  return names.includes(STATE.pattern) ? STATE.pattern : names[0] ?? null;
}

function startStrip() {
  if (!DATA.strips.length) return;
  showSection("tokens");
  options($("strip-prompt"), DATA.strips.map((s) => [s.prompt, promptName(s.prompt)]), DATA.strips[chosenStrip()].prompt);
  $("strip-prompt").onchange = (event) => setState({ prompt: event.target.value, position: null });
  $("strip-pattern").onchange = (event) => setState({ pattern: event.target.value });
  const box = $("strip-tokens");
  const at = (event) => event.target.closest?.("[data-i]");
  box.addEventListener("mouseover", (event) => { if (at(event)) { STRIP.hover = Number(at(event).dataset.i); shadeStrip(); } });
  box.addEventListener("mouseleave", () => { STRIP.hover = null; shadeStrip(); });
  box.addEventListener("focusin", (event) => at(event) && setState({ position: at(event).dataset.i }));
  box.addEventListener("click", (event) => at(event)?.focus());
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const here = Number(at(event)?.dataset.i ?? 0);
    const to = event.key === "Home" ? 0 : event.key === "End" ? STRIP.nodes.length - 1 : step ? here + step : null;
    if (event.key === "Escape") setState({ position: null });
    if (to === null || !STRIP.nodes[to]) return;
    event.preventDefault();
    STRIP.nodes[to].focus();
  });
  onState(["prompt"], drawStrip);
  onState(["pattern", "position"], shadeStrip);
  drawStrip();
}

function drawStrip() {
  const index = chosenStrip();
  const strip = DATA.strips[index];
  if (index !== STRIP.index) {
    STRIP.index = index;
    STRIP.hover = null;
    const words = DATA.texts[strip.tokens];
    const pieces = [];
    STRIP.nodes = words.map((word, i) => {
      const node = el("span", { textContent: shown(word) || "∅", role: "option", tabIndex: -1, "aria-selected": "false" });
      node.dataset.i = i;
      const kind = strip.marks[i];
      if (kind !== undefined) {
        node.className = "mark";
        node.style.borderBottomColor = kindColour(kind);
        node.style.borderBottomStyle = ["solid", "dashed", "dotted", "double"][kindIndex(kind) % 4];
      }
      pieces.push(node);
      if (/\n$/.test(word)) pieces.push(el("br"));
      return node;
    });
    $("strip-tokens").replaceChildren(...pieces);
    const names = Object.keys(strip.patterns);
    const spell = (n) => (/^\d+\.\d+$/.test(n) ? `head ${n}` : shown(n));
    options($("strip-pattern"), names.length ? names.map((n) => [n, spell(n)]) : [["", "none kept"]], chosenPattern(strip) ?? "");
    $("strip-pattern").disabled = !names.length;
    const kinds = [...new Set(Object.values(strip.marks))];
    $("strip-legend").replaceChildren(...kinds.map((kind) => {
      const sample = el("span", { className: "mark", textContent: shown(kind) });
      sample.style.borderBottomColor = kindColour(kind);
      sample.style.borderBottomStyle = ["solid", "dashed", "dotted", "double"][kindIndex(kind) % 4];
      return sample;
    }));
    if (!kinds.length) $("strip-legend").textContent = "Nothing was found in this prompt.";
  }
  $("strip-prompt").value = String(strip.prompt);
  const pools = [...new Set(Object.values(strip.patterns).map((pattern) => pattern.pool))].filter((pool) => pool > 1);
  $("strip-caption").textContent = Object.keys(strip.patterns).length
    ? "Hover a token, click it, or move with the arrow keys: the keys it attends to are shaded, darkest = most attention (square-root scale). Escape returns to rest." +
      (pools.length ? ` Pooled over blocks of ${pools[0]} tokens.` : "")
    : `Shaded: ${shown(strip.weightLabel)}. No full pattern is kept for this prompt, so a single query's keys cannot be shown.`;
  shadeStrip();
}

// Weight at rest -> 0..1 on a log scale from the median to the largest, so that one strong token does not hide the rest.
function restShade(weights) {
  const sorted = Array.from(weights).filter((w) => w > 0).sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const top = sorted[sorted.length - 1] ?? 0;
  return (w) => (w > middle && top > middle ? Math.log(w / middle) / Math.log(top / middle) : 0);
}

const share = (weight) => (weight < 0.005 ? "<0.01" : weight.toFixed(2)); // patterns are stored to about 0.4 %

// Bring the chosen token into the strip's own view, without moving the page.
function reveal(node) {
  const box = $("strip-tokens");
  const top = node.offsetTop - box.scrollTop;
  if (top < 0 || top > box.clientHeight - node.offsetHeight) box.scrollTop = node.offsetTop - box.clientHeight / 3;
}

function shadeStrip() {
  const strip = DATA.strips[STRIP.index];
  const name = chosenPattern(strip);
  $("strip-pattern").value = name ?? "";
  const pinned = chosenPosition();
  const query = STRIP.hover ?? (pinned !== null && pinned < STRIP.nodes.length ? pinned : null);
  if (query !== null && STRIP.hover === null) reveal(STRIP.nodes[query]);
  const weights = values(strip.weight);
  const words = DATA.texts[strip.tokens];
  const pattern = name === null ? null : strip.patterns[name];
  const row = query !== null && pattern ? patternRow(pattern, query) : null;
  const rest = restShade(weights);
  const top = row ? Math.max(...row, 1e-9) : 1;
  STRIP.nodes.forEach((node, i) => {
    const shade = row ? Math.sqrt(row[Math.floor(i / pattern.pool)] / top) : rest(weights[i]);
    node.style.setProperty("--a", (0.9 * (Number.isFinite(shade) ? shade : 0)).toFixed(3));
    node.classList.toggle("query", i === query);
    node.setAttribute("aria-selected", i === query ? "true" : "false");
    node.tabIndex = i === (pinned ?? 0) ? 0 : -1;
    node.title = `${i} ${label(words[i])}${strip.marks[i] !== undefined ? ` (${shown(strip.marks[i])})` : ""} · weight at rest ${num(weights[i])}${row ? ` · attention from the query ${share(row[Math.floor(i / pattern.pool)])}` : ""}`;
  });
  const head = name === null ? "" : /^\d+\.\d+$/.test(name) ? `head ${name}` : shown(name);
  if (query === null) $("strip-status").textContent = `No query: shaded is ${shown(strip.weightLabel)}, on a log scale from the median token to the strongest.`;
  else if (!row) $("strip-status").textContent = `Token ${query} ${label(words[query])}: weight at rest ${num(weights[query])}.`;
  else {
    const best = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 5).filter((k) => row[k] > 0);
    const spell = (k) => (pattern.pool > 1 ? `${k * pattern.pool} to ${(k + 1) * pattern.pool - 1}` : `${k} ${label(words[k] ?? "")}`);
    $("strip-status").textContent = `Query ${query} ${label(words[query])} in ${head} attends to: ${best.map((k) => `${spell(k)} (${share(row[k])})`).join(", ")}.`;
  }
}
