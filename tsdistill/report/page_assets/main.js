// State, controls, and what is drawn again when they change.
const given = report.thresholds;
const state = { group: 0, metric: report.metrics[0], axis: "standardised_norm", log: false, aligned: given.aligned, redundant: given.redundant };
let planned = 0;
let drawing = 0;
let speaking = 0;
let everything = false;

// Numbers at once; plots when the hand rests, the heat map and the history only when what they show has changed.
function refresh() {
  planned = 0;
  const group = report.groups[state.group];
  const all = countAll(state);
  fillTiles(all);
  fillRows(all, state);
  fillFacts(group, all, state);
  fillTable(group, all.groups[state.group], state);
  clearTimeout(drawing);
  drawing = setTimeout(() => drawPlots(group, all.groups[state.group]), everything ? 0 : 90);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    byId("status").textContent = `${counted(all.candidates, "candidate")} of ${counted(all.nodes, "node")}; ${amount(all.saved.params)} parameters and ${amount(all.saved.macs)} MACs would go.`;
  }, 600);
}

function drawPlots(group, counts) {
  drawCurve(group, counts, state);
  if (group.matches[state.metric]) {
    drawCounts(group, state);
    if (everything) drawHeat(group, state);
    if (everything) drawLadder(group, state);
    else moveLadderMark(state);
  }
  if (everything) drawHistory(state);
  everything = !window.Plotly;
  byId("main").setAttribute("aria-busy", String(everything));
}

function plan(all = true) {
  everything = everything || all;
  clearTimeout(drawing);
  byId("main").setAttribute("aria-busy", "true");
  if (!planned) planned = requestAnimationFrame(refresh);
}

function choose(place) {
  state.group = Math.min(report.groups.length - 1, Math.max(0, place));
  byId("group").value = String(state.group);
  const [rows, row] = [byId("overview"), byId("overview").children[state.group]];
  if (row.offsetTop < rows.scrollTop || row.offsetTop + row.offsetHeight > rows.scrollTop + rows.clientHeight) {
    rows.scrollTop = row.offsetTop - (rows.clientHeight - row.offsetHeight) / 2;
  }
  byId("previous").disabled = state.group === 0;
  byId("next").disabled = state.group === report.groups.length - 1;
  plan();
}

function setThreshold(name, value) {
  if (!Number.isFinite(value)) return;
  state[name] = Math.min(1, Math.max(0, value));
  byId(name).value = String(state[name]);
  if (document.activeElement !== byId(`${name}-exact`)) byId(`${name}-exact`).value = String(state[name]);
  plan(false);
}

function options(id, entries) {
  byId(id).replaceChildren(...entries.map(([value, label]) => element("option", label, { value })));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light colours" : "Dark colours";
  readColours();
  plan();
}

function listen() {
  for (const name of ["aligned", "redundant"]) {
    byId(name).addEventListener("input", (event) => setThreshold(name, event.target.valueAsNumber));
    byId(`${name}-exact`).addEventListener("input", (event) => setThreshold(name, event.target.valueAsNumber));
    byId(`${name}-exact`).addEventListener("blur", (event) => { event.target.value = String(state[name]); });
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", () => { for (const name of ["aligned", "redundant"]) setThreshold(name, given[name]); });
  byId("group").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("overview").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("previous").addEventListener("click", () => choose(state.group - 1));
  byId("next").addEventListener("click", () => choose(state.group + 1));
  byId("metric").addEventListener("change", (event) => { state.metric = event.target.value; byId("aligned-hint").textContent = state.metric; plan(); });
  byId("axis").addEventListener("change", (event) => { state.axis = event.target.value; plan(false); });
  byId("log").addEventListener("change", (event) => { state.log = event.target.checked; plan(false); });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  byId("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  setTheme(dark.matches ? "dark" : "light");
}

async function loadPlotly() {
  const packed = new Blob([bytesOf(byId("plotly").textContent)]).stream();
  const code = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  const script = element("script");
  script.textContent = code;
  document.head.append(script);
}

options("group", report.groups.map((group, i) => [i, group.name]));
options("metric", report.metrics.map((name) => [name, name]));
options("axis", Object.entries(AXES).map(([name, [label]]) => [name, label]));
byId("metric-control").hidden = report.metrics.length < 2;
fillLegend();
buildRows();
listen();
for (const name of ["aligned", "redundant"]) setThreshold(name, given[name]);
byId("aligned-hint").textContent = state.metric;
choose(0);
for (const place of document.querySelectorAll(".plot")) place.append(element("div"));
loadPlotly().then(() => { plan(); followSizes(); }, () => {
  for (const place of document.querySelectorAll(".plot")) place.replaceChildren(element("p", "This browser cannot unpack the drawing library; the figures above and the table below are complete.", { class: "hint" }));
});
