// Routers and strategies: tables of what stands beside the oracle where it was given.
function plainTable(headings, rows, numeric) {
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "table, scrolls sideways" }, h("table", { class: "plain" },
    h("thead", null, h("tr", null, headings.map((text, i) => h("th", { scope: "col", class: numeric[i] ? "n" : null }, text)))),
    h("tbody", null, rows.map(row => h("tr", null, row.map((cell, i) => i === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: numeric[i] ? "n" : null }, cell)))))));
}
const withInterval = (e, digits = 3) => e ? number(e[0], digits) + " " + interval(e, digits) : "–";
const share = e => e ? percent(e[0]) + (known(e) ? " [" + percent(e[1]) + ", " + percent(e[2]) + "]" : "") : "–";

function drawRouters() {
  const run = theRun(), k = state.k;
  byId("routers-section").hidden = run.routers.length === 0;
  if (!run.routers.length) return;
  const line = run.lines[k];
  const rows = run.routers.map(r => [escaped(r.name), r.causal === null ? "not said" : r.causal ? "yes" : "no", r.big[1] === r.big[2] ? number(r.big[0], 2) : withInterval(r.big, 2), withInterval(r.loss), withInterval(r.gain),
    withInterval(r.regret && r.regret[k]), share(r.same[k]), count(r.distinct), percent(r.commonest)]);
  rows.push(["oracle, budget " + run.budgets[k].name, "no", line.nBig[1] === line.nBig[2] ? number(line.nBig[0], 2) : withInterval(line.nBig, 2), withInterval(line.oracle), withInterval(line.gain), "0", "100%", "", ""]);
  if (line.fixed) rows.push(["best fixed, budget " + run.budgets[k].name, "yes", "", withInterval(line.fixed), number(line.big[0] - line.fixed[0]), number(line.fixed[0] - line.oracle[0]), "", "1", "100.0%"]);
  const notes = [];
  if (run.routers.some(r => r.loss === null)) notes.push("Routers' losses are looked up among the kept losses of a run whose context does not depend on the oracle's own choices; here there are none.");
  for (const r of run.routers) if (r.unknown) notes.push(escaped(r.name) + ": the loss of " + percent(r.unknown) + " of its choices was not kept; these tokens are left out of its means.");
  byId("routers").replaceChildren(plainTable(["router", "causal", run.words.unit, "loss", "gain over " + run.words.full, "regret", "same path", "patterns", "commonest"],
    rows, [false, false, true, true, true, true, true, true, true]), ...notes.map(text => h("p", { class: "says" }, text)));
}

function drawStrategies() {
  byId("strategies-section").hidden = report.strategies.length === 0;
  const three = (row, name) => typeof row[name] === "number" ? [row[name], row[name + "_low"] ?? null, row[name + "_high"] ?? null] : null;
  byId("strategies").replaceChildren(...report.strategies.map(file => h("div", null, report.strategies.length > 1 ? h("h3", null, escaped(file.name)) : null,
    plainTable(["strategy", "budget", "evaluations", "of", "regret", "share of gain", "exact path", "random, as many", "tokens per CPU s"],
      file.rows.map(row => [escaped(String(row.strategy)), escaped(String(row.budget)), typeof row.evaluations === "number" ? row.evaluations.toFixed(1) : "–",
        typeof row.patterns === "number" ? count(row.patterns) : "–", withInterval(three(row, "regret"), 4), share(three(row, "share")), share(three(row, "exact")?.slice(0, 1)),
        share(three(row, "random_share")?.slice(0, 1)), typeof row.tokens_per_second === "number" ? number(row.tokens_per_second, 1) : "–"]),
      [false, false, true, true, true, true, true, true, true]))));
}

view(["run", "k"], drawRouters);
view(["run"], drawStrategies);
