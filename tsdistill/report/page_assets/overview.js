// The parts that are plain HTML: figures in tiles, a row a group, the table of nodes.

function fillTiles(all) {
  const tiles = [];
  if (!OWN) tiles.push(["teacher-aligned", "Teacher nodes aligned", all.teacherAligned, whole, all.teacherNodes]);
  tiles.push(["aligned-nodes", OWN ? "Nodes with a twin" : "Student nodes aligned", all.aligned, whole, all.nodes]);
  tiles.push(["candidates", "Candidates to go", all.candidates, whole, all.nodes]);
  tiles.push(["params-saved", "Parameters that would go", all.saved.params, amount, report.params]);
  tiles.push(["macs-saved", "MACs that would go", all.saved.macs, amount, report.macs]);
  byId("tiles").replaceChildren(...tiles.map(([id, label, value, show, total]) => {
    const tile = element("div", "", { class: "tile", id: `tile-${id}`, "data-value": value });
    tile.append(element("dt", label), element("dd", show(value), { class: "big", title: whole(value) }),
      element("dd", `${percent(value, total)} of ${show(total)}`, { class: "small" }));
    return tile;
  }));
}

function fillLegend() {
  const items = [["aligned", OWN ? "has a twin" : "aligned"], ["aligned goes", OWN ? "has a twin, candidate" : "aligned, candidate"],
    ["unaligned goes", OWN ? "no twin, candidate" : "unaligned, candidate"], ["unaligned", OWN ? "no twin" : "unaligned"]];
  byId("overview-legend").replaceChildren(...items.map(([classes, label]) => {
    const item = element("li");
    item.append(element("span", "", { class: `swatch ${classes}` }), label);
    return item;
  }));
  const heads = ["group", OWN ? "its nodes" : "student nodes", "nodes", "candidates", OWN ? "with a twin" : "teacher nodes aligned",
    OWN ? "mean best similarity" : "mean best similarity of teacher nodes"];
  byId("overview-head").replaceChildren(...heads.map((head, i) => element("span", head, { class: i > 1 && i < 5 ? "number" : "" })));
}

function buildRows() {
  byId("overview").replaceChildren(...report.groups.map((group, i) => {
    const row = element("label", "", { class: "overview-row" });
    const stack = element("span", "", { class: "stack", "aria-hidden": "true" });
    for (const classes of ["aligned", "aligned goes", "unaligned goes", "unaligned"]) stack.append(element("i", "", { class: classes }));
    row.append(
      element("input", "", { type: "radio", name: "shown", value: i }),
      element("span", group.name, { class: "name", title: group.name }), stack,
      element("span", whole(group.size), { class: "number nodes" }),
      element("span", "", { class: "number go", "data-label": "go" }),
      element("span", "", { class: "number beside", "data-label": OWN ? "twins" : "aligned" }),
      element("span", "", { class: "mean" }),
    );
    return row;
  }));
}

function fillRows(all, state) {
  const rows = byId("overview").children;
  byId("overview-head").style.marginRight = `${byId("overview").offsetWidth - byId("overview").clientWidth}px`;
  all.groups.forEach((counts, i) => {
    const row = rows[i];
    const group = report.groups[i];
    row.querySelector("input").checked = i === state.group;
    const parts = [counts.alignedStays, counts.alignedGoes, counts.otherGoes, counts.otherStays];
    row.querySelectorAll(".stack i").forEach((part, at) => { part.style.width = `${(100 * parts[at]) / group.size}%`; });
    row.querySelector(".go").textContent = whole(counts.candidates);
    row.querySelector(".beside").textContent = OWN ? whole(counts.aligned) : counts.teacherNodes ? `${counts.teacherAligned} of ${counts.teacherNodes}` : "–";
    const mean = row.querySelector(".mean");
    mean.classList.toggle("none", counts.mean === null);
    if (counts.mean === null) {
      mean.textContent = group.teacher === null ? "no partner" : "not measured";
      return;
    }
    const track = element("span", "", { class: "track", "aria-hidden": "true" });
    const dot = element("i");
    dot.style.left = `${100 * Math.min(1, Math.max(0, counts.mean))}%`;
    track.append(dot);
    mean.replaceChildren(track, element("span", counts.mean.toFixed(2), { class: "number" }));
  });
}

const TABLE_ROWS = 200;

function fillTable(group, counts, state) {
  const matches = group.matches[state.metric];
  const order = Array.from(group.strength.keys()).sort((a, b) => group.strength[b] - group.strength[a] || a - b);
  const heads = ["node", "strength", "± standard error", "‖v‖·σ", "√E[β]", "‖v‖", OWN ? "most alike" : "best teacher node", state.metric, "R²", "above 0", "is"];
  byId("nodes").tHead.replaceChildren(element("tr"));
  byId("nodes").tHead.rows[0].append(...heads.map((head) => element("th", head, { scope: "col" })));
  byId("nodes").tBodies[0].replaceChildren(...order.slice(0, TABLE_ROWS).map((k) => {
    const row = element("tr");
    const matched = matches && matches.best[k] >= 0;
    row.append(element("th", nodeName(group.name, k), { scope: "row" }), ...[
      short(group.strength[k]), Number(group.strength_error[k].toPrecision(1)).toString(), short(group.standardised_norm[k]), short(group.sensitivity[k]), short(group.fan_out_norm[k]),
      matched ? nodeName(group.teacher, matches.best[k]) : "none", matched ? matches.similarity[k].toFixed(3) : "–",
      group.r2[k].toFixed(3), percent(group.on[k], 1), wordsOf(group, counts, state, k),
    ].map((cell) => element("td", cell)));
    return row;
  }));
  byId("table-cap").textContent = group.size > TABLE_ROWS ? `the first ${TABLE_ROWS} of ${whole(group.size)}` : counted(group.size, "node");
}

function fillFacts(group, all, state) {
  byId("detail-title").textContent = group.name;
  const said = [counted(group.size, "node")];
  if (!OWN && group.teacher !== null) said.push(`beside ${counted(group.teacherSize, "node")} of the teacher's ${group.teacher}`);
  if (group.compared) said.push(group.compared);
  said.push(`read by ${group.readers.slice(0, 4).join(", ")}${group.readers.length > 4 ? ` and ${group.readers.length - 4} more` : ""}`);
  if (group.observed) said.push(counted(group.samples, "sample"));
  for (const [name, value] of Object.entries(group.scores)) said.push(`${name} ${value.toFixed(3)}`);
  said.push(`its ${counted(all.groups[state.group].candidates, "candidate")} alone: ${amount(all.savedAlone.params)} parameters, ${amount(all.savedAlone.macs)} MACs`);
  byId("detail-facts").textContent = said.join(" · ");
  const empty = byId("empty");
  const missing = !group.matches[state.metric];
  empty.hidden = !missing && group.observed;
  if (!group.observed) empty.textContent = "No layer that reads this group can be observed. Only the norms of its weights are known, and it is left whole.";
  else if (group.teacher === null) empty.textContent = "This group has no partner in the teacher, so nothing is matched here. What is known of its nodes alone is below.";
  else if (missing) empty.textContent = `${state.metric} was not measured for this group; choose another metric.`;
  for (const card of ["card-heat", "card-counts", "card-ladder"]) byId(card).hidden = missing;
}
