// The budget curve: the oracle and the lines to read it against; beside it what is paired with all-big, with intervals.
const CURVES = [
  ["mean", "mean pattern", "grey"],
  ["fixed", "best fixed, chosen on other documents", "cold"],
  ["bias", "what selection bias alone would show", "bias"],
  ["oracle", "oracle", "hot"],
  ["big", "all-big", "plain"],
];
const PAIRED = [["gain", "gain", "hot"], ["nullGain", "selection bias", "bias"], ["control", "excess where nothing is chosen", "grey"], ["excess", "excess", "strong"]];

function drawCurve() {
  const run = theRun();
  byId("curve-section").hidden = run.budgets.length < 2;
  if (run.budgets.length < 2) return;
  const lines = run.lines.map(line => ({ ...line, bias: line.nullGain ? [line.big[0] - line.nullGain[0], null, null] : null }));
  const shown = CURVES.filter(([key]) => lines.every(line => line[key]));
  const wide = byId("curve").clientWidth || 800, sideBySide = wide >= 720;
  const first = sideBySide ? Math.round(wide * 0.58) : wide;
  const parts = [figure(first, 300, lines, shown, "nats per token", false)];
  if (lines.every(line => line.excess)) {
    parts.push(figure(sideBySide ? wide - first - 24 : wide, 300, lines, PAIRED.filter(([key]) => lines.every(line => line[key])), inWords(run, "all-big minus, nats per token"), true));
  }
  byId("curve").replaceChildren(h("div", { class: "figures" }, parts));
  drawReading();
}

const keysOf = shown => h("ul", { class: "keys" }, shown.map(([, name, colour]) => h("li", null,
  s("svg", { width: 26, height: 10, "aria-hidden": "true" }, s("line", { x1: 1, x2: 25, y1: 5, y2: 5, class: "curve " + colour })), inWords(theRun(), name))));

// Budgets whose numbers of big layers are neighbours are joined; a line over anything else would show what was not searched.
function joined(order, budgets) {
  const found = [];
  for (const i of order) {
    const last = found.length ? found[found.length - 1] : null, before = last ? budgets[last[last.length - 1]].big : null;
    if (before !== null && budgets[i].big === before + 1) last.push(i); else found.push([i]);
  }
  return found;
}

function figure(width, height, lines, shown, axis, zero) {
  const run = theRun(), box = { left: 46, right: 12, top: 22, bottom: 40 };
  const numeric = run.budgets.every(b => b.big !== null) && new Set(run.budgets.map(b => b.big)).size === run.budgets.length;
  const at = run.budgets.map((b, i) => numeric ? b.big : i);
  const ends = shown.flatMap(([key]) => lines.flatMap(line => line[key].filter(v => v !== null))).concat(zero ? [0] : []);
  const low = Math.min(...ends), high = Math.max(...ends), room = (high - low) * 0.05 || 0.1;
  const x = scale(Math.min(...at) - 0.4, Math.max(...at) + 0.4, box.left, width - box.right);
  const y = scale(low - room, high + room, height - box.bottom, box.top);
  const order = at.map((_, i) => i).sort((a, b) => at[a] - at[b]);
  const half = (x(1) - x(0)) / 2;
  const every = Math.ceil(run.budgets.length * 26 / (width - box.left - box.right));
  const place = h("div", { class: "figure" }, keysOf(shown), s("svg", { viewBox: "0 0 " + width + " " + height, width, height, class: "plot", role: "img",
    "aria-label": axis + " against the budget; the numbers stand in the summary of each budget" },
  ticks(low - room, high + room, 5).map(([v, digits]) => [
    s("line", { x1: box.left, x2: width - box.right, y1: y(v), y2: y(v), class: Math.abs(v) < 1e-9 && zero ? "axis" : "rule" }),
    s("text", { x: box.left - 8, y: y(v) + 4, class: "end" }, number(v, digits))]),
  s("text", { x: box.left, y: 12, class: "start label" }, axis),
  s("text", { x: (box.left + width - box.right) / 2, y: height - 4, class: "middle label" }, numeric ? run.words.unit + " per token" + (run.routed ? ", of layers " + run.routed : "") : "budget"),
  run.budgets.map((b, i) => i % every === 0 ? s("text", { x: x(at[i]), y: height - box.bottom + 17, class: "middle" + (i === state.k ? " now" : "") }, b.name) : null),
  s("rect", { x: x(at[state.k]) - half, width: 2 * half, y: box.top, height: height - box.top - box.bottom, class: "chosen" }),
  shown.map(([key, , colour]) => {
    const bands = zero ? joined(order.filter(i => known(lines[i][key])), run.budgets) : [];
    return [bands.map(part => part.length > 1 ? s("path", { d: pathOf(part.map(i => [x(at[i]), y(lines[i][key][2])]).concat(part.slice().reverse().map(i => [x(at[i]), y(lines[i][key][1])]))) + "Z", class: "band " + colour }) :
      s("line", { x1: x(at[part[0]]), x2: x(at[part[0]]), y1: y(lines[part[0]][key][1]), y2: y(lines[part[0]][key][2]), class: "curve alone " + colour })),
    joined(order, run.budgets).filter(part => part.length > 1).map(part => s("path", { d: pathOf(part.map(i => [x(at[i]), y(lines[i][key][0])])), class: "curve " + colour })),
    order.map(i => s("circle", { cx: x(at[i]), cy: y(lines[i][key][0]), r: 2.6, class: "mark " + colour }))];
  }),
  run.budgets.map((b, i) => s("rect", { x: x(at[i]) - half, width: 2 * half, y: box.top, height: height - box.top, class: "hit", onclick: () => change({ k: i }) },
    s("title", null, b.label + ": " + shown.map(([key, name]) => inWords(run, name) + " " + number(lines[i][key][0]) + " " + interval(lines[i][key])).join("; "))))));
  place.style.width = width + "px";
  return place;
}

function drawReading() {
  const run = theRun(), line = run.lines[state.k];
  byId("curve-reading").textContent = run.budgets[state.k].label + ": oracle " + number(line.oracle[0]) + " " + interval(line.oracle) +
    (line.fixed ? " · best fixed " + number(line.fixed[0]) + " " + interval(line.fixed) : "") + " · " + run.words.full + " " + number(line.big[0]) +
    (line.nullGain ? " · selection bias alone " + number(line.big[0] - line.nullGain[0]) + " · excess " + number(line.excess[0]) + " " + interval(line.excess) : "");
}

view(["run", "k", "width"], drawCurve);
