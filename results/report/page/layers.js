// Layers and distributions: where the oracle path is big, or spends experts, how the chosen measure spreads, and the classes of tokens.
const BINS = 48, TOKENS_A_BIN = 100; // fewer bins where there are few tokens, or the map shows noise

function layerMap(run, k) {
  const codes = column(run, "pattern." + k), position = column(run, "position"), layers = run.layers;
  let last = 0;
  for (let i = 0; i < run.rows; i++) if (position[i] > last) last = position[i];
  const bins = Math.min(BINS, last + 1, Math.max(8, Math.floor(run.rows / TOKENS_A_BIN))), total = new Float64Array(bins), big = new Float64Array(bins * layers);
  const costs = letterCosts(run), most = dearest(run), isBig = run.patterns.map(p => [...p].map(letter => costs.get(letter) / most)); // of the greatest cost
  for (let i = 0; i < run.rows; i++) {
    const bin = Math.floor(position[i] * bins / (last + 1)), flags = isBig[codes[i]];
    total[bin]++;
    for (let layer = 0; layer < layers; layer++) big[layer * bins + bin] += flags[layer];
  }
  return { bins, total, big, last };
}

function drawLayers() {
  const run = theRun(), k = state.k, numbers = run.layerNumbers, { bins, total, big, last } = layerMap(run, k);
  const width = byId("layers").clientWidth || 800, narrow = width < 560;
  const left = 44, gap = narrow ? 14 : 36, barWidth = narrow ? 84 : Math.min(260, width * 0.26), mapWidth = width - left - gap - barWidth - (narrow ? 34 : 44);
  const cell = mapWidth / bins, row = Math.max(14, Math.min(26, 320 / run.layers)), top = 22, bottom = top + row * run.layers;
  const shares = run.layerShares[k];
  let most = 0;
  for (let i = 0; i < big.length; i++) if (total[i % bins]) most = Math.max(most, big[i] / total[i % bins]);
  most = Math.max(most, 1e-9);
  const barMost = Math.max(...shares.map(e => known(e) ? e[2] : e[0]), 1e-9);
  const barAt = left + mapWidth + gap, x = scale(0, barMost * 1.02, barAt, barAt + barWidth);
  const even = run.lines[k].nBig[0] / run.layers / dearest(run);
  const rects = [];
  for (let layer = 0; layer < run.layers; layer++) {
    for (let bin = 0; bin < bins; bin++) {
      if (!total[bin]) continue;
      const share = big[layer * bins + bin] / total[bin];
      const from = Math.ceil(bin * (last + 1) / bins), to = Math.ceil((bin + 1) * (last + 1) / bins) - 1;
      rects.push(s("rect", { x: (left + bin * cell).toFixed(2), y: (top + layer * row).toFixed(2), width: (cell + 0.3).toFixed(2), height: (row - 1).toFixed(2),
        fill: cssColour(rampAt("compute", share / most)), "data-share": share.toFixed(4) },
      s("title", null, "layer " + numbers[layer] + ", positions " + from + (to > from ? " to " + to : "") + ": " + run.words.share + " " + percent(share) + ", of " + count(total[bin]) + " tokens")));
    }
  }
  const bars = shares.map((e, layer) => {
    const y = top + layer * row;
    return [s("rect", { x: barAt, y: y + row * 0.18, width: Math.max(0, x(e[0]) - barAt), height: row * 0.64 - 1, class: "layer-bar" },
      s("title", null, "layer " + numbers[layer] + ": " + run.words.share + " " + percent(e[0]) + " " + (known(e) ? "[" + percent(e[1]) + ", " + percent(e[2]) + "]" : ""))),
    known(e) ? s("line", { x1: x(e[1]), x2: x(e[2]), y1: y + row / 2 - 0.5, y2: y + row / 2 - 0.5, class: "whisker" }) : null,
    s("text", { x: barAt + barWidth + 6, y: y + row / 2 + 4, class: "start", "data-layer-share": numbers[layer] }, (100 * e[0]).toFixed(0) + "%")];
  });
  const marks = ticks(0, last, Math.max(2, Math.min(8, mapWidth / 70))).filter(([v]) => Number.isInteger(v));
  const gradient = [0, 1, 2, 3, 4, 5, 6].map(i => s("rect", { x: left + i * 18, y: bottom + 36, width: 18, height: 8, fill: cssColour(rampAt("compute", i / 6)) }));
  byId("layers").replaceChildren(s("svg", { viewBox: "0 0 " + width + " " + (bottom + 60), width, height: bottom + 60, class: "plot", role: "img",
    "aria-label": run.words.share + " by layer: " + shares.map((e, layer) => numbers[layer] + " " + percent(e[0])).join(", ") },
  s("text", { x: left - 8, y: 13, class: "end label" }, "layer"), s("text", { x: left, y: 13, class: "start label" }, run.words.share + " by position"), s("text", { x: barAt, y: 13, class: "start label" }, "at all positions"),
  shares.map((_, layer) => s("text", { x: left - 8, y: top + layer * row + row / 2 + 4, class: "end", "data-layer": numbers[layer] }, numbers[layer])),
  rects, bars, s("line", { x1: x(even), x2: x(even), y1: top - 4, y2: bottom + 4, class: "even" }),
  marks.map(([v]) => s("text", { x: left + (v + 0.5) * mapWidth / (last + 1), y: bottom + 16, class: "middle" }, v)),
  s("text", { x: left + mapWidth, y: bottom + 30, class: "end label" }, "position in the sequence"),
  gradient, s("text", { x: left, y: bottom + 57, class: "start" }, "0%"), s("text", { x: left + 126, y: bottom + 57, class: "end" }, percent(most))));
}

function drawDistribution() {
  const run = theRun(), measure = measureOf(run, state.measure);
  const values = valuesOf(run, measure.key, state.k).filter(v => Number.isFinite(v)).sort();
  const width = byId("distribution").clientWidth || 500, height = 220, box = { left: 48, right: 10, top: 22, bottom: 38 };
  const at = share => values[Math.min(values.length - 1, Math.floor(share * values.length))];
  byId("distribution-says").textContent = measure.name + " (" + measure.says + "): tokens by value; the line marks the median. The ends hold all beyond them.";
  if (!values.length) { byId("distribution").replaceChildren(); return; }
  const whole = measure.family === "compute";
  let low = whole ? -0.5 : Math.min(at(0.005), 0), high = whole ? run.layers * dearest(run) + 0.5 : at(0.995);
  if (!(high > low)) { low -= 0.5; high = low + 1; }
  const bins = whole ? run.layers * dearest(run) + 1 : 40, counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.max(0, Math.min(bins - 1, Math.floor((v - low) / (high - low) * bins)))]++;
  const x = scale(low, high, box.left, width - box.right), y = scale(0, Math.max(...counts), height - box.bottom, box.top);
  const bar = (width - box.left - box.right) / bins;
  byId("distribution").replaceChildren(s("svg", { viewBox: "0 0 " + width + " " + height, width, height, class: "plot", role: "img",
    "aria-label": "distribution: median " + number(at(0.5)) + ", from " + number(values[0]) + " to " + number(values[values.length - 1]) },
  ticks(0, Math.max(...counts), 4).map(([v, digits]) => [s("line", { x1: box.left, x2: width - box.right, y1: y(v), y2: y(v), class: "rule" }),
    s("text", { x: box.left - 8, y: y(v) + 4, class: "end" }, count(Number(v.toFixed(digits))))]),
  counts.map((n, i) => s("rect", { x: box.left + i * bar + 0.5, y: y(n), width: Math.max(0.5, bar - 1), height: y(0) - y(n),
    fill: cssColour(rgbOf(run, measure, low + (i + 0.5) / bins * (high - low))), class: "bin" },
  s("title", null, number(low + i / bins * (high - low)) + " to " + number(low + (i + 1) / bins * (high - low)) + ": " + count(n) + " tokens"))),
  s("line", { x1: x(at(0.5)), x2: x(at(0.5)), y1: box.top, y2: height - box.bottom, class: "even" }),
  ticks(low, high, Math.max(3, width / 90)).map(([v, digits]) => s("text", { x: x(v), y: height - box.bottom + 17, class: "middle" }, number(v, digits))),
  s("text", { x: 0, y: 12, class: "start label" }, "tokens"),
  s("text", { x: width - box.right, y: height - 4, class: "end label" }, whole ? run.words.unit : measure.name + ", nats")));
}

// Without drawn labels some tokens are helped, and nobody knows whether by selection bias; with them none is called so.
const shownClasses = run => run.classes.map((_, i) => i).filter(i => run.lines[0].nullGain ? run.classes[i] !== "helped" : run.classes[i] !== "reducible" && run.classes[i] !== "within bias");
function drawClasses() {
  const run = theRun(), counts = run.classes.map(() => 0);
  for (const one of classesOf(run, state.k)) counts[one]++;
  const order = shownClasses(run), most = Math.max(...counts) / run.rows || 1;
  byId("classes").replaceChildren(h("table", { class: "classes" }, h("tbody", null, order.map(one => h("tr", { "data-class": run.classes[one] },
    h("th", { scope: "row" }, run.classes[one]), h("td", { class: "n" }, count(counts[one])), h("td", { class: "n" }, percent(counts[one] / run.rows)),
    h("td", { class: "bars" }, s("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { x: 0, y: 0, height: 12, width: 100 * counts[one] / run.rows / most, class: "layer-bar" }))))))));
}

view(["run", "k", "theme", "width"], drawLayers);
view(["run", "k", "measure", "theme", "width"], drawDistribution);
view(["run", "k"], drawClasses);
