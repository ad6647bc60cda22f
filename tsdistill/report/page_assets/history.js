// Over training: how alike the best student node has become to strong, middle and weak teacher nodes.
const THIRDS = [["strong", "solid"], ["middle", "dash"], ["weak", "dot"]];

function drawLines(id, lines, said) {
  const names = report.history.names.map(literal);
  const traces = lines.map((y, third) => ({
    type: "scatter", mode: "lines+markers", name: THIRDS[third][0], x: names.map((_, at) => at), y,
    text: names, hovertemplate: `<b>${THIRDS[third][0]} teacher nodes</b><br>%{text}: %{y:.3f}<extra></extra>`,
    line: { color: colours[THIRDS[third][0]], width: 2.5, dash: THIRDS[third][1] }, marker: { size: 6 },
  })).filter((trace) => trace.y.some((value) => value !== null));
  const low = Math.min(0, ...lines.flat());
  const every = Math.ceil(names.length / 8);
  const shown = names.map((_, at) => at).filter((at) => at % every === 0);
  draw(id, traces, layout(
    axis("checkpoint", { tickvals: shown, ticktext: shown.map((at) => names[at]), range: [-0.15, names.length - 0.85] }),
    axis(`mean best ${report.history.metric}`, { range: [low, 1.03] })), said);
}

function drawHistory(state) {
  if (!report.history) return;
  for (const id of ["history-all-key", "history-group-key"]) {
    key(id, THIRDS.map(([name]) => ["stroke", `${name} third`, `var(--${name})`]));
  }
  drawLines("history-all", report.history.all, "Mean best similarity of strong, middle and weak teacher nodes over the checkpoints, all groups.");
  const chosen = report.groups[state.group].name;
  const there = Object.hasOwn(report.history.groups, chosen);
  byId("history-group-title").textContent = `Group ${chosen}${there ? "" : ": not followed"}`;
  byId("history-group").hidden = !there;
  byId("history-group-key").hidden = !there;
  if (there) drawLines("history-group", report.history.groups[chosen], `The same for group ${chosen}.`);
}
