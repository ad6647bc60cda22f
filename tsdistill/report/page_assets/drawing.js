// What all plots share: colours of the theme, axes, text that Plotly takes literally.
const touch = matchMedia("(pointer: coarse)").matches;
const AXES = {
  standardised_norm: ["fan-out norm ‖v‖·σ", "fan-out norm at unit variance, ‖v‖·σ"],
  strength: ["strength s", "strength s"],
  sensitivity: ["sensitivity √E[β]", "sensitivity √E[β]"],
  fan_out_norm: ["raw fan-out norm ‖v‖", "fan-out norm as it is, ‖v‖"],
};
const CONFIG = { displayModeBar: false };
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif';
let colours = {};

function readColours() {
  const probe = element("span");
  document.body.append(probe);
  for (const name of ["card", "ink", "quiet", "line", "grid", "aligned", "unaligned", "weak", "middle", "strong", "negative", "zero", "positive"]) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

// Plotly reads a few tags in text; names are shown as they are.
function literal(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const ramp = () => [[0, colours.weak], [0.5, colours.middle], [1, colours.strong]];

// The colour of a share on the ramp.
function tint(share) {
  const parts = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
  const [from, to, at] = share < 0.5 ? [colours.weak, colours.middle, 2 * share] : [colours.middle, colours.strong, 2 * share - 1];
  const [a, b] = [parts(from), parts(to)];
  return `rgb(${a.map((value, i) => Math.round(value + at * (b[i] - value))).join(",")})`;
}

// Strength as a share of the group's largest, on the square root so that weak nodes differ too.
function shares(strength) {
  const top = largest(strength);
  return Array.from(strength, (value) => (top > 0 ? Math.sqrt(value / top) : 0));
}

function axis(title, more = {}) {
  return {
    title: { text: literal(title), font: { size: 12.5, color: colours.quiet }, standoff: 10 }, automargin: true,
    gridcolor: colours.grid, zeroline: false, linecolor: colours.line, showline: true,
    ticks: "outside", ticklen: 4, tickcolor: colours.line, tickfont: { size: 11.5, color: colours.quiet }, ...more,
  };
}

function layout(x, y, more = {}) {
  return {
    xaxis: x, yaxis: y, showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom",
    margin: { l: 52, r: 14, t: 12, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, color: colours.ink },
    hoverlabel: { align: "left", bgcolor: colours.card, bordercolor: colours.quiet, font: { family: FONT, size: 12.5, color: colours.ink } }, ...more,
  };
}

function line(from, to, layer = "below") {
  return { type: "line", layer, ...from, ...to, line: { color: colours.quiet, width: 1.3, dash: "dash" } };
}

function key(id, items) {
  byId(id).replaceChildren(...items.map(([classes, text, style]) => {
    const item = element("span");
    const mark = element("i", "", { class: classes });
    if (style) mark.style.background = style;
    item.append(mark, text);
    return item;
  }));
}

const rampStyle = () => "linear-gradient(90deg, var(--weak), var(--middle), var(--strong))";

function draw(id, traces, shape, said) {
  const place = byId(id);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", said);
  if (window.Plotly) Plotly.react(place.firstElementChild, traces, shape, CONFIG);
}

// Plots follow their place when it grows or shrinks.
function followSizes() {
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.offsetParent && target.firstElementChild.data) Plotly.Plots.resize(target.firstElementChild);
  });
  for (const place of document.querySelectorAll(".plot")) sizes.observe(place);
}
