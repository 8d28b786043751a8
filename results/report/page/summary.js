// Summary: the run in words, the finding under the chosen budget in one sentence, and every number with its interval.
function drawAbout() {
  const run = theRun();
  byId("searched").textContent = run.searched;
  drawVerdict(run);
  byId("how").replaceChildren(...run.how.map(text => h("p", null, text)));
  byId("warnings").replaceChildren(...run.warnings.map(text => h("li", null, text)));
  byId("warnings").hidden = run.warnings.length === 0;
  byId("details").replaceChildren(h("table", { class: "plain" }, h("tbody", null,
    run.details.map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", null, value))))));
}

// What thirty seconds are enough for: the sentence, the gain as one bar, and three numbers, of the budget that the sentence is of.
function drawVerdict(run) {
  const line = run.lines[run.verdict.budget];
  byId("verdict").dataset.kind = run.verdict.kind;
  const [claim, ...reasons] = run.verdict.text.split(": ");
  byId("verdict-text").replaceChildren(...(reasons.length ? [h("b", null, claim), ": " + reasons.join(": ")] : [claim]));
  byId("verdict-bar").replaceChildren(...(line.nullGain && line.gain[0] > 0 ? [gainBar(line)] : []));
  const tiles = [[inWords(run, "Gain over all-big"), line.gain, "the answer known"]];
  if (line.nullGain) tiles.push(["Selection bias", line.nullGain, inWords(run, "the same on labels drawn from all-big")]);
  if (line.beyond) tiles.push(["Beyond both", line.beyond, beyondSays(line)]);
  if (line.realised) tiles.push(["Reachable", line.realised, "by the reference's choice, which never saw the label"]);
  byId("verdict-of").textContent = count(line.tokens) + " tokens of " + count(line.documents) + " document" + (line.documents === 1 ? "" : "s") + ", context " + run.context +
    ", budget " + run.budgets[run.verdict.budget].name + "; nats per token";
  byId("tiles").replaceChildren(...tiles.map(([name, e, says]) => h("div", { class: "tile", "data-name": name }, h("span", null, name),
    h("span", { class: "value" }, h("b", null, number(e[0])), " ", h("small", null, interval(e) || "no interval")), h("small", null, says))));
}

// Below zero the difference may be of an excess that is small, or of one that is itself below zero; a reader is told which.
function beyondSays(line) {
  if (line.excess[0] < 0) return "the excess, itself below zero, minus the one where nothing is chosen";
  return line.beyond[0] < 0 ? "the excess is less than the one where nothing is chosen" : "the excess minus the one where nothing is chosen";
}

function gainBar(line) {
  const width = 640, most = Math.max(line.gain[0], line.nullGain[0], line.nullGain[0] + (line.control ? line.control[0] : 0)), x = scale(0, most, 0, width);
  const bias = Math.max(0, Math.min(line.nullGain[0], line.gain[0])), ends = line.nullGain[0] + (line.control ? line.control[0] : 0);
  return h("figure", null, s("svg", { viewBox: "0 0 " + width + " 34", width: "100%", height: 34, preserveAspectRatio: "none", class: "plot", role: "img",
    "aria-label": "of a gain of " + number(line.gain[0]) + " nats, " + number(bias) + " are selection bias" },
  s("rect", { x: 0, y: 4, width: x(bias), height: 22, class: "bar-bias" }), s("rect", { x: x(bias), y: 4, width: Math.max(0, x(line.gain[0]) - x(bias)), height: 22, class: "bar-rest" }),
  line.control ? s("line", { x1: x(Math.max(0, ends)), x2: x(Math.max(0, ends)), y1: 0, y2: 30, class: "bar-mark" }) : null),
  h("figcaption", null, [["bias", "selection bias ", line.nullGain], ["rest", "the rest ", line.excess], ["mark", "the rest of " + theRun().cheapest + ", where nothing is chosen ", line.control]]
    .filter(([, , e]) => e).map(([key, name, e]) => h("span", { class: "entry" }, h("span", { class: "key " + key }), name, number(e[0])))));
}

function drawOverview() {
  if (report.runs.length < 2) return;
  const head = ["run", "context", "tokens", "budget", "gain", "selection bias", "beyond both", "verdict"];
  put(byId("overview"), h("div", { class: "scroll" }, h("table", { class: "plain overview" }, h("caption", null, "The runs side by side; nats per token, 95% intervals"),
    h("thead", null, h("tr", null, head.map((text, i) => h("th", { scope: "col", class: i > 1 && i < 7 ? "n" : null }, text)))),
    h("tbody", null, report.runs.map((run, i) => {
      const line = run.lines[run.verdict.budget], both = e => e ? number(e[0]) + " " + interval(e) : "–";
      return h("tr", { class: i === state.run ? "now" : null }, h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => chooseRun(i) }, escaped(run.name))),
        h("td", null, run.context), h("td", { class: "n" }, count(run.rows)), h("td", { class: "n" }, run.budgets[run.verdict.budget].name), h("td", { class: "n" }, both(line.gain)),
        h("td", { class: "n" }, both(line.nullGain)), h("td", { class: "n" }, both(line.beyond)), h("td", null, run.verdict.kind));
    })))));
}

function drawFinding() {
  const run = theRun(), line = run.lines[state.k], budget = run.budgets[state.k];
  const parts = [h("span", null, "With " + budget.label + " (" + count(budget.patterns) + " pattern" + (budget.patterns === 1 ? "" : "s") +
    " a token) the oracle " + (line.gain[0] < 0 ? "loses " : "gains "), h("b", null, number(Math.abs(line.gain[0]))), " nats per token over " + run.words.full)];
  if (line.nullGain) {
    parts.push("; selection bias alone would " + (line.nullGain[0] < 0 ? "lose " : "gain "), h("b", null, number(Math.abs(line.nullGain[0]))), ". Excess: ",
      h("b", null, number(line.excess[0]) + " " + interval(line.excess)));
    if (known(line.excess)) parts.push(line.excess[1] > 0 ? ", above zero." : line.excess[2] < 0 ? ", below zero." : ", not distinguishable from zero.");
    else parts.push(".");
    if (line.control) parts.push(" Where nothing is chosen it is ", number(line.control[0]) + " " + interval(line.control),
      line.control[0] > 0 ? ": a model that is overconfident on new text shows an excess for any other pattern." : ".");
  } else {
    parts.push(". No labels were drawn, so how much of it is selection bias is not known.");
  }
  byId("finding").replaceChildren(...parts.map(part => part instanceof Node ? part : document.createTextNode(part)));
}

function drawSummary() {
  const run = theRun(), line = run.lines[state.k];
  const rows = [
    [inWords(run, "All-small"), line.small, ""],
    ["Mean pattern", line.mean, "every pattern in the budget as likely"],
    ["Best fixed pattern", line.fixed, "one for all tokens, chosen on other documents"],
    ["Best fixed in-sample", line.fixedInSample, line.fixedPattern],
    [inWords(run, "All-big"), line.big, ""],
    ["Oracle", line.oracle, line.certified === 1 ? "the least of " + count(run.budgets[state.k].patterns) + " per token, proven" :
      "the best found; proven the least of " + count(run.budgets[state.k].patterns) + " for " + percent(line.certified) + " of tokens"],
  ].filter(row => row[1]);
  const gains = [
    ["Gain", line.gain, inWords(run, "all-big minus the oracle")],
    ["Null gain", line.nullGain, inWords(run, "the same on labels drawn from all-big: selection bias")],
    ["Excess", line.excess, "gain minus null gain" + (known([0, 0, line.detectable]) ? "; detectable here from " + number(line.detectable) : "")],
    ["Where nothing is chosen", line.control, "the excess of " + run.cheapest],
    ["Difference", line.beyond, "excess minus that, paired token by token"],
    ["Reference's choice, expected", line.expected, "the pattern of the least loss that the reference expects, by the reference"],
    ["Reference's choice, realised", line.realised, "the same on the real label: no selection bias"],
  ].filter(row => row[1]);
  const table = h("table", { class: "summary" },
    h("caption", null, "Nats per token with 95% intervals; " + count(line.tokens) + " tokens of " + count(line.documents) +
      " document" + (line.documents === 1 ? "" : "s") + ", budget " + run.budgets[state.k].name + ", context " + run.context),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, ""), h("th", { scope: "col", class: "n" }, "nats"), h("th", { scope: "col", class: "n" }, "95% interval"),
      h("th", { scope: "col", class: "n ppl" }, "perplexity"), h("th", { scope: "col", class: "dots" }, h("span", { class: "hidden" }, "as a picture")))),
    h("tbody", null, summaryRows(rows, true, false), axisRow(rows, false)), h("tbody", { class: "apart" }, summaryRows(gains, false, true), axisRow(gains, true)));
  byId("summary").replaceChildren(table);
}

function reach(rows, zero) {
  const ends = rows.flatMap(([, e]) => e.filter(v => v !== null)).concat(zero ? [0] : []);
  const low = Math.min(...ends), high = Math.max(...ends), room = (high - low) * 0.06 || 0.1;
  return [low - room, high + room];
}

// An estimate as a dot on its interval, and the scale that the dots above stand on.
function dotOf(e, [low, high], zero, mark) {
  const x = scale(low, high, 0, 240);
  return s("svg", { viewBox: "0 0 240 22", "aria-hidden": "true" },
    zero ? s("line", { x1: x(0), x2: x(0), y1: 0, y2: 22, class: "axis" }) : null,
    known(e) ? s("line", { x1: x(e[1]), x2: x(e[2]), y1: 11, y2: 11, class: "whisker" }) : null,
    s("circle", { cx: x(e[0]), cy: 11, r: 4.5, class: "dot " + mark }));
}
function dotScale([low, high]) {
  const x = scale(low, high, 0, 240);
  return s("svg", { viewBox: "0 0 240 22", class: "plot" }, s("line", { x1: 0, x2: 240, y1: 1, y2: 1, class: "axis" }),
    ticks(low, high, 3).map(([v, digits]) => [s("line", { x1: x(v), x2: x(v), y1: 1, y2: 5, class: "axis" }), s("text", { x: x(v), y: 18, class: "middle" }, number(v, digits))]));
}
const axisRow = (rows, zero) => h("tr", { class: "scale", "aria-hidden": "true" }, h("th"), h("td"), h("td"), h("td", { class: "ppl" }), h("td", { class: "dots" }, dotScale(reach(rows, zero))));

function summaryRows(rows, perplexities, zero) {
  const ends = reach(rows, zero);
  return rows.map(([name, e, says]) => h("tr", { "data-name": name },
    h("th", { scope: "row" }, name, says ? h("small", null, says) : null),
    h("td", { class: "n value" }, number(e[0])), h("td", { class: "n" }, interval(e)), h("td", { class: "n ppl" }, perplexities ? perplexity(e) : ""),
    h("td", { class: "dots" }, dotOf(e, ends, zero, name === "Oracle" || name === "Gain" ? "hot" : name === "Excess" ? "strong" : ""))));
}

view(["run"], drawAbout);
view(["run"], drawOverview);
view(["run", "k"], drawFinding);
view(["run", "k"], drawSummary);
