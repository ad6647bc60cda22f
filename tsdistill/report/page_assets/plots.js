// The four plots of the chosen group.

function drawCurve(group, counts, state) {
  const matches = group.matches[state.metric];
  const values = group[state.axis];
  const colour = matches && !OWN
    ? ((all) => Array.from(matches.best, (j) => (j < 0 ? 0 : all[j])))(shares(group.teacherStrength))
    : shares(group.strength);
  const ranks = new Float64Array(group.size);
  Array.from(group.strength.keys()).sort((a, b) => group.strength[b] - group.strength[a] || a - b).forEach((k, rank) => { ranks[k] = rank + 1; });
  const x = matches ? matches.similarity : ranks;
  const positive = Array.from(values).filter((value) => value > 0);
  const floor = positive.length ? Math.max(positive.reduce((a, b) => Math.min(a, b)) / 2, largest(positive) * 1e-6) : 1e-6;
  const y = state.log ? Array.from(values, (value) => Math.max(value, floor)) : values;
  const top = largest(values) || 1;
  const traces = [0, 1].map((goes) => {
    const chosen = Array.from(x.keys()).filter((k) => counts.goes[k] === goes).sort((a, b) => colour[a] - colour[b]);
    return {
      type: "scatter", mode: "markers", name: goes ? "candidates" : "stay",
      x: chosen.map((k) => x[k]), y: chosen.map((k) => y[k]), customdata: chosen,
      text: chosen.map((k) => aboutNode(group, counts, state, k)), hovertemplate: "%{text}<extra></extra>",
      marker: {
        symbol: goes ? "circle-open" : "circle", size: group.size > 400 ? 7 : 9, color: chosen.map((k) => colour[k]),
        colorscale: ramp(), cmin: 0, cmax: 1, opacity: goes ? 1 : 0.92,
        line: goes ? { width: 1.8 } : { width: 0.7, color: colours.card },
      },
    };
  });
  const low = Math.min(0, Math.floor(10 * x.reduce((a, b) => Math.min(a, b), 0)) / 10);
  const across = matches
    ? axis(`best ${state.metric} with ${OWN ? "another" : "a teacher"} node`, { range: [low - 0.025, 1.025] })
    : axis("nodes, strong → weak", { range: [0, group.size + 1] });
  const up = axis(AXES[state.axis][1], state.log
    ? { type: "log", range: [Math.log10(floor) - 0.12, Math.log10(top) + 0.12], exponentformat: "power", dtick: Math.log10(top / floor) > 1.2 ? 1 : "D2" }
    : { range: [-0.04 * top, 1.06 * top] });
  const mark = matches ? [line({ x0: state.aligned, x1: state.aligned }, { y0: 0, y1: 1, yref: "paper" })] : [];
  draw("curve", traces, layout(across, up, { shapes: mark }),
    `${group.name}: ${counts.aligned} of ${group.size} nodes aligned, ${counts.candidates} candidates. The table below has every figure.`);
  key("curve-key", [["disc", "stays"], ["ring", "candidate"], ...(matches ? [["dash", OWN ? "twin" : "aligned"]] : []),
    ["ramp", matches && !OWN ? "its teacher node, weak → strong" : "weak → strong", rampStyle()]]);
}

function aboutNode(group, counts, state, k) {
  const matches = group.matches[state.metric];
  const top = largest(group.strength);
  const lines = [`<b>${literal(nodeName(group.name, k))}</b>  ${wordsOf(group, counts, state, k)}`];
  if (matches && matches.best[k] >= 0) {
    lines.push(`${OWN ? "most like" : "matches"} ${literal(nodeName(group.teacher, matches.best[k]))}, ${literal(state.metric)} ${matches.similarity[k].toFixed(3)}`);
  } else lines.push("no match");
  lines.push(`strength ${short(group.strength[k])} ± ${short(Number(group.strength_error[k].toPrecision(1)))} (${percent(group.strength[k], top)} of the largest)`,
    `‖v‖·σ ${short(group.standardised_norm[k])}, ‖v‖ ${short(group.fan_out_norm[k])}, √E[β] ${short(group.sensitivity[k])}`,
    `R² ${group.r2[k].toFixed(3)}, above 0 on ${percent(group.on[k], 1)}`);
  return lines.join("<br>");
}

function drawHeat(group, state) {
  const matches = group.matches[state.metric];
  const { rows, columns, heat } = matches;
  const z = Array.from(rows, (_, i) => Array.from(columns, (__, j) => {
    const code = heat.codes[i * columns.length + j];
    return code === 255 ? null : heat.low + (code / 254) * (heat.high - heat.low);
  }));
  const scale = heat.low < 0 ? [[0, colours.negative], [0.5, colours.zero], [1, colours.positive]] : [[0, colours.zero], [1, colours.positive]];
  const names = (group_, nodes) => Array.from(nodes, (k) => literal(nodeName(group_, k)));
  const bare = { type: "category", showticklabels: false, ticks: "", showgrid: false, showline: false };
  draw("heat", [{
    type: "heatmap", z, x: names(group.teacher, columns), y: names(group.name, rows), zmin: heat.low, zmax: heat.high,
    colorscale: scale, showscale: false, hovertemplate: `<b>%{y}</b><br>${OWN ? "and" : "beside"} %{x}<br>${literal(state.metric)} %{z:.2f}<extra></extra>`,
  }], layout(
    axis(OWN ? "nodes, alike ones together" : "teacher nodes, strong → weak", bare),
    axis(OWN ? "the same nodes" : "student nodes, by match", { ...bare, autorange: "reversed" }),
    { margin: { l: 34, r: 14, t: 12, b: 40 } }),
  `Heat map of ${state.metric} for ${rows.length} by ${columns.length} nodes of ${group.name}.`);
  const low = heat.low < 0 ? heat.low.toFixed(2).replace("-", "−") : "0";
  key("heat-key", [["ramp", `${low} … ${heat.high.toFixed(2)}`, `linear-gradient(90deg, ${heat.low < 0 ? "var(--negative), " : ""}var(--zero), var(--positive))`]]);
  const cut = rows.length < group.size || columns.length < group.teacherSize;
  byId("heat-cap").textContent = !cut ? "" : OWN
    ? `Shown are the ${columns.length} strongest of ${whole(group.size)} nodes.`
    : `Shown are ${columns.length < group.teacherSize ? `the ${columns.length} strongest` : "all"} of ${whole(group.teacherSize)} teacher nodes and ${rows.length} of ${whole(group.size)} student nodes, those that match them best.`;
}

const STEPS = 10000, FULLEST = 64;

function alike(matches, j, threshold) {
  let number = 0;
  for (let at = matches.starts[j]; at < matches.starts[j + 1]; at += 1) if (matches.steps[at] >= threshold * STEPS - 1e-6) number += 1;
  return number;
}

function drawCounts(group, state) {
  const matches = group.matches[state.metric];
  const order = Array.from(group.teacherStrength.keys()).sort((a, b) => group.teacherStrength[b] - group.teacherStrength[a] || a - b);
  const ranks = order.map((_, rank) => rank + 1);
  const high = order.map((j) => alike(matches, j, state.aligned));
  const low = order.map((j) => alike(matches, j, 0.5));
  const or = (number) => (number >= FULLEST ? `${FULLEST} or more` : String(number));
  const text = order.map((j, i) => `<b>${literal(nodeName(group.teacher, j))}</b><br>${or(high[i])} at ${state.aligned} or above<br>${or(low[i])} at 0.5 or above<br>strength ${short(group.teacherStrength[j])}`);
  const bars = (y, color) => (order.length > 150
    ? { type: "scatter", mode: "lines", line: { shape: "hvh", width: 0 }, fill: "tozeroy", fillcolor: color, x: ranks, y, text, hovertemplate: "%{text}<extra></extra>" }
    : { type: "bar", x: ranks, y, marker: { color, line: { width: 0 } }, text, textposition: "none", hovertemplate: "%{text}<extra></extra>" });
  const top = Math.max(1, largest(low));
  draw("counts", [bars(low, colours.unaligned), bars(high, colours.aligned)], layout(
    axis(OWN ? "nodes, strong → weak" : "teacher nodes, strong → weak", { range: [0.4, order.length + 0.6], showgrid: false, tickformat: "d" }),
    axis(OWN ? "other nodes" : "student nodes", { range: [0, 1.06 * top], tickformat: "d", dtick: top < 6 ? 1 : undefined }),
    { barmode: "overlay", bargap: order.length > 40 ? 0.1 : 0.25, hovermode: "x", hoverdistance: 30 }),
  `${group.name}: ${high.filter((number) => number > 0).length} of ${order.length} nodes have at least one match at ${state.aligned}.`);
  key("counts-key", [["swatch aligned", `at ${state.aligned} or above`], ["swatch unaligned", "at 0.5 or above"]]);
}

const ladderMark = (state) => [line({ x0: 0, x1: 1, xref: "paper" }, { y0: state.aligned, y1: state.aligned }, "above")];

function moveLadderMark(state) {
  if (window.Plotly) Plotly.relayout(byId("ladder").firstElementChild, { shapes: ladderMark(state) });
}

function drawLadder(group, state) {
  const matches = group.matches[state.metric];
  const relative = shares(group.teacherStrength);
  const x = [], y = [], width = [], colour = [], text = [];
  const dots = { x: [], y: [], text: [] };
  let start = 0;
  for (const nodes of group.bins) {
    const values = nodes.map((j) => matches.teacherSimilarity[j]);
    x.push(start + nodes.length / 2);
    y.push(average(values));
    width.push(nodes.length * 0.86);
    colour.push(tint(average(nodes.map((j) => relative[j]))));
    text.push(`<b>mean ${average(values).toFixed(3)}</b><br>${counted(nodes.length, "node")}, mean strength ${short(average(nodes.map((j) => group.teacherStrength[j])))}`);
    nodes.forEach((j, i) => {
      dots.x.push(start + i + 0.5);
      dots.y.push(values[i]);
      const found = matches.teacherBest[j];
      dots.text.push(`<b>${literal(nodeName(group.teacher, j))}</b><br>best: ${found < 0 ? "none" : literal(nodeName(group.name, found))}, ${literal(state.metric)} ${values[i].toFixed(3)}<br>strength ${short(group.teacherStrength[j])}`);
    });
    start += nodes.length;
  }
  const low = Math.min(0, Math.floor(10 * dots.y.reduce((a, b) => Math.min(a, b), 0)) / 10);
  const single = group.bins.every((nodes) => nodes.length === 1);
  draw("ladder", [
    { type: "bar", x, y, width, text, textposition: "none", hovertemplate: "%{text}<extra></extra>", marker: { color: colour, opacity: 0.9 } },
    { type: "scatter", mode: "markers", ...dots, hovertemplate: "%{text}<extra></extra>", marker: { size: start > 150 ? 3 : 5, color: colours.ink, opacity: single ? 0 : 0.5 } },
  ], layout(
    axis(OWN ? "nodes, weak → strong" : "teacher nodes, weak → strong", { range: [-0.2, start + 0.2], showticklabels: false, ticks: "", showgrid: false }),
    axis(`best ${state.metric}`, { range: [low, 1.03] }),
    { shapes: ladderMark(state) }),
  `${group.name}: mean best ${state.metric} from weak to strong: ${y.map((value) => value.toFixed(2)).join(", ")}.`);
  const nodes = OWN ? "nodes" : "teacher nodes";
  key("ladder-key", [...(single ? [["ramp", `${nodes}: weak → strong`, rampStyle()]] : [["swatch", `mean of a tenth of the ${nodes}`, "var(--middle)"], ["disc ink", "one node"]]), ["dash flat", OWN ? "twin" : "aligned"]]);
}
