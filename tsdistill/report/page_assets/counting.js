// What thresholds make of the nodes, and what the network costs without the candidates.

// Dead, weak, or explained by the nodes that stay; a group keeps its strongest node.
function candidatesOf(group, threshold) {
  const goes = new Uint8Array(group.size);
  let number = 0;
  for (let k = 0; k < group.size; k += 1) {
    if (group.flags[k] & (DEAD | WEAK) || group.leaving_r2[k] >= threshold) {
      goes[k] = 1;
      number += 1;
    }
  }
  if (number > 0 && number === group.size) {
    let top = 0;
    for (let k = 1; k < group.size; k += 1) if (group.strength[k] > group.strength[top]) top = k;
    goes[top] = 0;
    number -= 1;
  }
  return { goes, number };
}

function isAligned(matches, k, threshold) {
  return Boolean(matches) && matches.best[k] >= 0 && matches.similarity[k] >= threshold;
}

function countGroup(group, state) {
  const matches = group.matches[state.metric];
  const { goes, number } = candidatesOf(group, state.redundant);
  const counts = { alignedStays: 0, alignedGoes: 0, otherStays: 0, otherGoes: 0 };
  for (let k = 0; k < group.size; k += 1) {
    const aligned = isAligned(matches, k, state.aligned);
    counts[(aligned ? "aligned" : "other") + (goes[k] ? "Goes" : "Stays")] += 1;
  }
  let teacherAligned = 0;
  if (matches) for (const value of matches.teacherSimilarity) if (value >= state.aligned) teacherAligned += 1;
  return {
    ...counts, goes, candidates: number, aligned: counts.alignedStays + counts.alignedGoes, teacherAligned,
    teacherNodes: matches ? group.teacherSize : 0, mean: matches ? average([...matches.teacherSimilarity]) : null,
  };
}

function cost(terms, kept) {
  let total = 0;
  for (const [coefficient, factors] of terms) {
    let product = coefficient;
    for (const [fixed, parts] of factors) {
      let width = fixed;
      for (const [place, times] of parts) width += times * kept[place];
      product *= width;
    }
    total += product;
  }
  return total;
}

function savings(kept) {
  return { params: report.params - cost(report.sizes, kept), macs: report.macs - cost(report.operations, kept) };
}

function countAll(state) {
  const groups = report.groups.map((group) => countGroup(group, state));
  const sum = (name) => groups.reduce((total, counts) => total + counts[name], 0);
  const kept = report.groups.map((group, i) => group.size - groups[i].candidates);
  const alone = report.groups.map((group) => group.size);
  alone[state.group] = kept[state.group];
  return {
    groups, nodes: report.groups.reduce((total, group) => total + group.size, 0),
    aligned: sum("aligned"), candidates: sum("candidates"),
    teacherAligned: sum("teacherAligned"), teacherNodes: sum("teacherNodes"),
    saved: savings(kept), savedAlone: savings(alone),
  };
}

function wordsOf(group, counts, state, k) {
  const words = [];
  if (isAligned(group.matches[state.metric], k, state.aligned)) words.push(OWN ? "has a twin" : "aligned");
  if (group.flags[k] & DEAD) words.push("dead");
  if (group.flags[k] & WEAK) words.push("weak");
  if (!(group.flags[k] & DEAD) && group.r2[k] >= state.redundant) words.push("redundant");
  if (group.flags[k] & SATURATED) words.push("saturated");
  if (group.flags[k] & FREE) words.push("free");
  if (counts.goes[k]) words.push("candidate");
  return words.length ? words.join(", ") : OWN ? "no twin" : "unaligned";
}
