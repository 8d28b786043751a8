// The page put together: title, choices of run, budget, measure and theme, the words, and the first drawing of everything.
const wordsOf = run => [
  ["path", "one branch per " + (run.routed ? "routed layer (" + run.routed + (run.words.experts ? ")" : "; the others are always big)") : "layer") +
    " for one token, layer " + run.layerNumbers[0] + " first: " + run.words.letters],
  [run.cheapest + ", " + run.words.full, run.words.uniform],
  ["oracle", "the path of least loss for the token, found with the answer known"],
  ["difficulty", run.cheapest + " loss minus the oracle's"],
  ["gain, null gain, excess", inWords(run, "loss of all-big minus the oracle's; the same for labels drawn from all-big; the first minus the second")],
  ["context", "which paths the earlier tokens of the text ran while this token's were compared; every number depends on it"],
  ["certified", "the path is proven to be the best of all that the budget allows"],
  ["nats", "losses are minus the natural logarithm of the probability given to the token that came"],
];

function drawChoices() {
  const run = theRun();
  byId("budgets").replaceChildren(h("legend", null, "Budget: " + run.words.unit + " per token" + (run.routed ? ", of layers " + run.routed : "")), h("div", { class: "segments" }, run.budgets.map((budget, k) =>
    h("label", { title: budget.label }, h("input", { type: "radio", name: "budget", value: k, checked: k === state.k, onchange: () => change({ k }) }),
      h("span", null, budget.name.replace("atmost:", "\u2264"))))));
  byId("measure").replaceChildren(...measuresOf(run).map(m => h("option", { value: m.key }, m.name)));
  byId("measure").value = state.measure;
}
function drawWords() {
  const run = theRun();
  byId("words").replaceChildren(...wordsOf(run).map(([name, text]) => h("div", null, h("dt", null, name), h("dd", null, text))));
  for (const place of document.querySelectorAll("[data-words]")) {
    place.dataset.words ||= place.textContent;
    place.textContent = inWords(run, place.dataset.words);
  }
  for (const place of document.querySelectorAll("[data-of]")) place.hidden = (place.dataset.of === "experts") !== run.words.experts;
}
function markBudget() {
  const chosen = byId("budgets").querySelector('input[value="' + state.k + '"]');
  if (chosen) { chosen.checked = true; }
}

function chooseRun(run) {
  if (byId("run")) byId("run").value = run;
  const there = report.runs[run], measure = measuresOf(there).some(m => m.key === state.measure) ? state.measure : "difficulty";
  change({ run, k: there.budget, measure, passage: 0, row: 0 });
}

byId("measure").addEventListener("change", event => change({ measure: event.target.value }));
byId("theme").addEventListener("click", () => {
  chosenTheme = theme() === "dark" ? "light" : "dark";
  drawTheme();
});
function drawTheme() {
  document.documentElement.dataset.theme = theme();
  byId("theme").textContent = theme() === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", "Show in " + (theme() === "dark" ? "light" : "dark") + " colours");
  change({ theme: theme() });
}
darkSystem.addEventListener("change", drawTheme);

document.title = report.title;
byId("title").textContent = escaped(report.title);
if (report.runs.length > 1) {
  byId("run-choice").replaceChildren(h("label", { class: "field" }, h("span", null, "Run"), h("select", { id: "run",
    onchange: event => chooseRun(Number(event.target.value)) },
  report.runs.map((run, i) => h("option", { value: i }, escaped(run.name) + " \u00b7 context " + run.context + " \u00b7 " + count(run.rows) + " tokens")))));
}

// What is shown stands in the address, so that a link shows the same and a reload loses nothing.
function stateOf(text) {
  const asked = new URLSearchParams(text.replace(/^#/, "")), whole = (name, below) => {
    const value = asked.get(name);
    return value !== null && /^\d+$/.test(value) && Number(value) < below ? Number(value) : null;
  };
  const run = whole("run", report.runs.length) || 0, there = report.runs[run];
  const named = there.budgets.findIndex(budget => budget.name === asked.get("budget"));
  const measure = measuresOf(there).some(m => m.key === asked.get("measure")) ? asked.get("measure") : "difficulty", row = whole("token", there.rows) || 0;
  return { run, k: named < 0 ? there.budget : named, measure, row, passage: passageOfRow(there, row).index };
}
function keepState() {
  const run = theRun(), kept = new URLSearchParams();
  if (report.runs.length > 1) kept.set("run", state.run);
  if (state.k !== run.budget) kept.set("budget", run.budgets[state.k].name);
  if (state.measure !== "difficulty") kept.set("measure", state.measure);
  if (state.row) kept.set("token", state.row);
  const wanted = kept.size ? "#" + kept : "";
  if (location.hash !== wanted) history.replaceState(null, "", wanted || location.pathname + location.search);
}
window.addEventListener("hashchange", () => {
  const asked = stateOf(location.hash), run = byId("run");
  if (run) run.value = asked.run;
  change(asked);
});

view(["run"], drawChoices);
view(["run"], drawWords);
view(["k"], markBudget);
Object.assign(state, stateOf(location.hash));
if (byId("run")) byId("run").value = state.run;
state.width = document.documentElement.clientWidth;
document.documentElement.dataset.theme = state.theme = theme();
drawTheme();
// The choices and texts that others rely on stand first; what lies below the first screen is drawn after it was painted.
const once = new Set();
const drawAll = keys => { for (const { keys: of, draw } of views) if (!once.has(draw) && of.some(key => keys.includes(key))) { once.add(draw); draw(); } };
drawChoices(); once.add(drawChoices);
drawAll(["run", "passage", "row", "k", "measure", "theme", "width"]);
view(["run", "k", "measure", "row"], keepState);
let resizing = 0;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => change({ width: document.documentElement.clientWidth }), 120);
});
document.documentElement.dataset.ready = "yes";
