// Summary: the run in words, the finding under the chosen budget in one sentence, and every number with its interval.
function drawAbout() {
  const run = theRun();
  byId("searched").textContent = run.searched;
  byId("how").replaceChildren(...run.how.map(text => h("p", null, text)));
  byId("warnings").replaceChildren(...run.warnings.map(text => h("li", null, text)));
  byId("warnings").hidden = run.warnings.length === 0;
  byId("details").replaceChildren(h("table", { class: "plain" }, h("tbody", null,
    run.details.map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", null, value))))));
}

function drawFinding() {
  const run = theRun(), line = run.lines[state.k], budget = run.budgets[state.k];
  const parts = [h("span", null, "With " + budget.label + " (" + count(budget.patterns) + " pattern" + (budget.patterns === 1 ? "" : "s") +
    " a token) the oracle " + (line.gain[0] < 0 ? "loses " : "gains "), h("b", null, number(Math.abs(line.gain[0]))), " nats per token over all-big")];
  if (line.nullGain) {
    parts.push("; selection bias alone would " + (line.nullGain[0] < 0 ? "lose " : "gain "), h("b", null, number(Math.abs(line.nullGain[0]))), ". Excess: ",
      h("b", null, number(line.excess[0]) + " " + interval(line.excess)));
    if (known(line.excess)) parts.push(line.excess[1] > 0 ? ", above zero." : line.excess[2] < 0 ? ", below zero." : ", not distinguishable from zero.");
    else parts.push(".");
    const zero = run.budgets.findIndex(b => b.patterns === 1 && b.big !== null && b.big < run.layers);
    if (zero >= 0 && zero !== state.k) {
      const without = run.lines[zero].excess;
      parts.push(" Where there is no choice (budget " + run.budgets[zero].name + ") it is ", number(without[0]) + " " + interval(without),
        without[0] > 0 ? ": an all-big that is overconfident on new text shows an excess for any other pattern." : ".");
    }
  } else {
    parts.push(". No labels were drawn, so how much of it is selection bias is not known.");
  }
  byId("finding").replaceChildren(...parts.map(part => part instanceof Node ? part : document.createTextNode(part)));
}

function drawSummary() {
  const run = theRun(), line = run.lines[state.k];
  const rows = [
    [cheapestNamed(run, "All-small"), line.small, ""],
    ["Mean pattern", line.mean, "every pattern in the budget as likely"],
    ["Best fixed pattern", line.fixed, "one for all tokens, chosen on other documents"],
    ["Best fixed in-sample", line.fixedInSample, line.fixedPattern],
    ["All-big", line.big, ""],
    ["Oracle", line.oracle, line.certified === 1 ? "the least of " + count(run.budgets[state.k].patterns) + " per token, proven" :
      "the best found; proven the least of " + count(run.budgets[state.k].patterns) + " for " + percent(line.certified) + " of tokens"],
  ].filter(row => row[1]);
  const gains = [
    ["Gain", line.gain, "all-big minus the oracle"],
    ["Null gain", line.nullGain, "the same on labels drawn from all-big: selection bias"],
    ["Excess", line.excess, "gain minus null gain" + (known([0, 0, line.detectable]) ? "; detectable here from " + number(line.detectable) : "")],
  ].filter(row => row[1]);
  const table = h("table", { class: "summary" },
    h("caption", null, "Nats per token with 95% intervals; " + count(line.tokens) + " tokens of " + count(line.documents) +
      " document" + (line.documents === 1 ? "" : "s") + ", budget " + run.budgets[state.k].name + ", context " + run.context),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, ""), h("th", { scope: "col", class: "n" }, "nats"), h("th", { scope: "col", class: "n" }, "95% interval"),
      h("th", { scope: "col", class: "n ppl" }, "perplexity"), h("th", { scope: "col", class: "dots" }, h("span", { class: "hidden" }, "as a picture")))),
    h("tbody", null, summaryRows(rows, true, false)), h("tbody", { class: "apart" }, summaryRows(gains, false, true)));
  byId("summary").replaceChildren(table);
}

function summaryRows(rows, perplexities, zero) {
  const ends = rows.flatMap(([, e]) => e.filter(v => v !== null)).concat(zero ? [0] : []);
  const low = Math.min(...ends), high = Math.max(...ends), room = (high - low) * 0.06 || 0.1;
  const x = scale(low - room, high + room, 0, 240);
  return rows.map(([name, e, says]) => h("tr", { "data-name": name },
    h("th", { scope: "row" }, name, says ? h("small", null, says) : null),
    h("td", { class: "n value" }, number(e[0])), h("td", { class: "n" }, interval(e)), h("td", { class: "n ppl" }, perplexities ? perplexity(e) : ""),
    h("td", { class: "dots" }, s("svg", { viewBox: "0 0 240 22", "aria-hidden": "true" },
      zero ? s("line", { x1: x(0), x2: x(0), y1: 0, y2: 22, class: "axis" }) : null,
      known(e) ? s("line", { x1: x(e[1]), x2: x(e[2]), y1: 11, y2: 11, class: "whisker" }) : null,
      s("circle", { cx: x(e[0]), cy: 11, r: 4.5, class: "dot " + (name === "Oracle" || name === "Gain" ? "hot" : name === "Excess" ? "strong" : "") })))));
}

view(["run"], drawAbout);
view(["run", "k"], drawFinding);
view(["run", "k"], drawSummary);
