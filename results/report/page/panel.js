// The panel of one token: what it is, the path that was best for it, its losses, other good patterns, and other budgets.
function drawPanel() {
  const run = theRun(), k = state.k, row = hovered === null ? state.row : hovered;
  const passage = passageOfRow(run, row), i = row - passage.start;
  const at = name => column(run, name + "." + k)[row];
  const loss = at("loss"), small = at("loss_cheapest"), big = at("loss_full"), bias = at("null_gain");
  const pattern = patternAt(run, row, k), budget = run.budgets[k];
  const numbers = [
    [run.cheapest + " loss", small, "loss_cheapest"], [run.words.full + " loss", big, "loss_full"], ["oracle loss", loss, "loss"],
    ["difficulty", small - loss, "difficulty"], ["gain over " + run.words.full, big - loss, "gain"],
    ["null gain", bias, "null_gain"], ["excess", big - loss - bias, "excess"],
  ].filter(([, value, name]) => !Number.isNaN(value) || (name !== "null_gain" && name !== "excess"));
  run.routers.forEach((router, r) => {
    const routed = column(run, "routed." + r);
    if (routed && !Number.isNaN(routed[row])) numbers.push([router.name + " loss", routed[row], "routed." + r]);
  });
  const panel = byId("panel");
  panel.dataset.row = row;
  put(panel, h("div", { class: "card" },
    h("h3", { class: "shown" }, named(pieceAt(run, passage, i + 1))),
    h("p", { class: "where" }, "predicted after ", h("span", { class: "mono" }, named(pieceAt(run, passage, i))), h("br"),
      escaped(run.documents[passage.doc]) + " \u00b7 sequence " + passage.sequence + " \u00b7 position " + column(run, "position")[row]),
    h("p", { class: "path" }, cells(pattern)),
    h("p", { class: "where" }, budget.label + ": " + costsOf(run)[column(run, "pattern." + k)[row]] + " of " + run.layers * dearest(run) + (run.words.experts ? " experts" : (run.routed ? " routed" : "") + " big") + " \u00b7 " +
      (at("certified") ? "certified the best of " : "not proven the best; evaluated ") + count(at("certified") ? budget.patterns : at("evaluations"))),
    h("dl", { class: "numbers" }, numbers.map(([name, value, key]) => h("div", { class: key === state.measure ? "now" : null },
      h("dt", null, name), h("dd", { "data-name": key }, number(value)))))),
  h("div", { class: "more" },
    run.routers.map((router, r) => h("div", null, h("h4", null, router.name), cells(run.patterns[column(run, "route." + r)[row]], true))),
    alternatives(run, k, row, loss), otherBudgets(run, row)));
}

function alternatives(run, k, row, loss) {
  const codes = column(run, "alternative." + k), above = column(run, "above." + k);
  if (!codes || !above) return run.kept ? null : h("p", { class: "where" }, "Other patterns were not kept (--keep losses).");
  const each = codes.length / run.rows, rows = [h("tr", null, h("td", null, cells(patternAt(run, row, k), true)), h("td", { class: "n" }, number(loss)), h("td", { class: "n" }, ""))];
  for (let a = 0; a < each; a++) {
    const steps = above[row * each + a];
    if (steps === 0xffff) continue;
    rows.push(h("tr", null, h("td", null, cells(run.patterns[codes[row * each + a]], true)), h("td", { class: "n" }, number(loss + steps * report.step)),
      h("td", { class: "n" }, "+" + number(steps * report.step))));
  }
  if (rows.length === 1) return h("p", { class: "where" }, "The budget leaves no other pattern.");
  return h("div", null, h("h4", null, "Best patterns"), h("table", { class: "alternatives" }, h("tbody", null, rows)));
}

function otherBudgets(run, row) {
  if (run.budgets.length < 2) return null;
  return h("details", { open: panelOpen, ontoggle: event => { panelOpen = event.target.open; } }, h("summary", null, "Other budgets"),
    h("table", { class: "alternatives" }, h("thead", null, h("tr", null, ["budget", "path", "loss", "excess"].map((text, i) => h("th", { scope: "col", class: i > 1 ? "n" : null }, text)))),
      h("tbody", null, run.budgets.map((budget, k) => {
        const loss = column(run, "loss." + k)[row], excess = column(run, "loss_full." + k)[row] - loss - column(run, "null_gain." + k)[row];
        return h("tr", { class: k === state.k ? "now" : null }, h("td", null, h("button", { type: "button", class: "link", onclick: () => change({ k }) }, budget.name)),
          h("td", null, cells(patternAt(run, row, k), true)), h("td", { class: "n" }, number(loss)), h("td", { class: "n" }, number(excess)));
      }))));
}
let panelOpen = true;

view(["run", "k", "row", "measure"], drawPanel);
