// What the page was given, unpacked; and numbers as people read them.
const byId = (id) => document.getElementById(id);
const report = JSON.parse(byId("data").textContent);
const KINDS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u2: Uint16Array, u1: Uint8Array };
const OWN = report.own;
const DEAD = 1, WEAK = 2, SATURATED = 4, FREE = 8;
const FIGURES = { standardised_norm: "f4", strength: "f8", strength_error: "f4", sensitivity: "f4", fan_out_norm: "f4", r2: "f8", leaving_r2: "f8", on: "f4" };

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function unpacked(text, kind) {
  return new KINDS[kind](bytesOf(text).buffer);
}

function unpackMatches(m) {
  const counts = unpacked(m.alike.counts, "u1");
  const starts = new Int32Array(counts.length + 1);
  counts.forEach((count, j) => { starts[j + 1] = starts[j] + count; });
  return {
    best: unpacked(m.best, "i4"), similarity: unpacked(m.similarity, "f8"),
    teacherBest: unpacked(m.teacherBest, "i4"), teacherSimilarity: unpacked(m.teacherSimilarity, "f8"),
    starts, steps: unpacked(m.alike.steps, "u2"),
    rows: unpacked(m.rows, "i4"), columns: unpacked(m.columns, "i4"),
    heat: { low: m.heat.low, high: m.heat.high, codes: unpacked(m.heat.codes, "u1") },
  };
}

for (const group of report.groups) {
  for (const [name, kind] of Object.entries(FIGURES)) group[name] = unpacked(group.figures[name], kind);
  group.flags = unpacked(group.flags, "u1");
  group.teacherStrength = unpacked(group.teacherStrength, "f4");
  for (const name of Object.keys(group.matches)) group.matches[name] = unpackMatches(group.matches[name]);
}

function amount(value) {
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= 0.9995 * size) return `${Number((value / size).toPrecision(3))}${letter}`;
  }
  return String(value);
}

const whole = (value) => value.toLocaleString("en-US");
const percent = (part, all) => (all ? `${((100 * part) / all).toFixed(1)} %` : "–");
const short = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(Number(value.toPrecision(4))) : value.toExponential(2));
const average = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0);
const largest = (values) => values.reduce((top, value) => Math.max(top, value), 0);
const counted = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;
const nodeName = (group, k) => `${group}[${k}]`;

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
