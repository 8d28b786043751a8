// The text: one passage at a time, each token coloured by the measure of predicting it, reached by mouse or arrow keys.
let hovered = null;
const box = byId("passage-text");
const tokenAt = row => box.querySelector('[data-row="' + row + '"]');

function drawPassage() {
  const run = theRun(), passage = passages(run)[state.passage];
  const first = h("span", { class: "token context", title: "only read, not predicted here" }, inText(pieceAt(run, passage, 0)));
  const rest = [];
  for (let i = 0; i < passage.length; i++) {
    rest.push(h("span", { class: "token", role: "option", "data-row": passage.start + i, tabindex: -1 }, inText(pieceAt(run, passage, i + 1))));
  }
  hovered = null;
  box.classList.toggle("prose", run.prose);
  box.replaceChildren(first, ...rest);
  box.scrollTop = 0;
  byId("passage").value = String(passage.index);
  byId("previous").disabled = passage.index === 0;
  byId("next").disabled = passage.index === passages(run).length - 1;
  colourPassage();
  markChosen();
}

// What is beyond selection bias is of low confidence where a label drawn from all-big gains as much: such tokens are grey.
const BEYOND = ["excess", "excess_difficulty"];

function colourPassage() {
  const run = theRun(), measure = measureOf(run, state.measure), values = valuesOf(run, measure.key, state.k);
  const doubtful = BEYOND.includes(measure.key) ? column(run, "doubtful." + state.k) : null;
  for (const token of box.querySelectorAll("[data-row]")) {
    const value = values[token.dataset.row];
    const doubt = doubtful !== null && doubtful[token.dataset.row] === 1;
    const full = Number.isFinite(value) ? rgbOf(run, measure, value) : null, rgb = full && doubt ? greyOf(full) : full;
    token.classList.toggle("doubtful", doubt);
    token.style.backgroundColor = rgb ? cssColour(rgb) : "";
    token.style.color = rgb ? inkOn(rgb) : "";
  }
}

function markChosen() {
  for (const old of box.querySelectorAll('[aria-selected="true"]')) { old.setAttribute("aria-selected", "false"); old.tabIndex = -1; }
  const token = tokenAt(state.row);
  if (token === null) return;
  token.setAttribute("aria-selected", "true");
  token.tabIndex = 0;
  const run = theRun(), measure = measureOf(run, state.measure);
  token.setAttribute("aria-label", named(targetOf(run, state.row)) + ", " + measure.name + " " + number(valuesOf(run, measure.key, state.k)[state.row]));
}

function drawLegend() {
  const run = theRun(), measure = measureOf(run, state.measure), [low, high] = run.scales[measure.key];
  const steps = 56, width = 300, x = scale(low, high, 8, width - 8), bar = (width - 16) / steps;
  byId("legend").replaceChildren(
    s("svg", { viewBox: "0 0 " + width + " 34", width, height: 34, class: "plot", "aria-hidden": "true" },
      Array.from({ length: steps }, (_, i) => s("rect", { x: 8 + i * bar, y: 2, width: bar + 0.4, height: 12,
        fill: cssColour(rgbOf(run, measure, low + (i + 0.5) / steps * (high - low))) })),
      s("rect", { x: 8, y: 2, width: width - 16, height: 12, class: "frame" }),
      ticks(low, high, 5).map(([v, digits]) => s("text", { x: x(v), y: 29, class: "middle" }, number(v, digits)))),
    h("p", null, h("b", null, measure.name), ": " + measure.says + (measure.family === "compute" ? "" : ", in nats") +
      ". One scale for all budgets" + (measure.family === "compute" ? "." : "; the rarest values beyond it take its end colours.") +
      (BEYOND.includes(measure.key) ? inWords(run, " Grey: some label drawn from all-big gains as much there, so the token alone shows nothing.") : "")));
}

function movedByLine(from, direction) {
  const at = from.getClientRects()[0];
  let best = null, bestDistance = Infinity, line = null;
  let next = from;
  while ((next = direction > 0 ? next.nextElementSibling : next.previousElementSibling)) {
    if (!next.dataset.row || !next.getClientRects().length) continue;
    const there = next.getClientRects()[0];
    if (Math.abs(there.top - at.top) < 4) continue;
    if (line === null) line = there.top;
    if (Math.abs(there.top - line) > 4) break;
    const distance = Math.abs(there.left - at.left);
    if (distance < bestDistance) { best = next; bestDistance = distance; }
  }
  return best;
}

// From here on the keyboard leads: a pointer that rests on some token says no more which one is meant.
function focusRow(row, options) {
  hovered = null;
  showRow(row);
  const token = tokenAt(row);
  if (token) token.focus(options);
}

box.addEventListener("keydown", event => {
  const token = event.target.closest("[data-row]");
  if (!token || event.altKey || event.ctrlKey || event.metaKey) return;
  const run = theRun(), row = Number(token.dataset.row), passage = passages(run)[state.passage];
  let to = null;
  if (event.key === "ArrowRight") to = row + 1;
  else if (event.key === "ArrowLeft") to = row - 1;
  else if (event.key === "Home") to = passage.start;
  else if (event.key === "End") to = passage.start + passage.length - 1;
  else if (event.key === "PageDown") to = passage.start + passage.length;
  else if (event.key === "PageUp") to = passage.index ? passages(run)[passage.index - 1].start : 0;
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const near = movedByLine(token, event.key === "ArrowDown" ? 1 : -1);
    to = near ? Number(near.dataset.row) : row;
  } else return;
  event.preventDefault();
  if (to >= 0 && to < run.rows) focusRow(to);
});
box.addEventListener("focusin", event => {
  const token = event.target.closest("[data-row]");
  if (token) showRow(Number(token.dataset.row));
});
box.addEventListener("click", event => {
  const token = event.target.closest("[data-row]");
  if (token) focusRow(Number(token.dataset.row), { preventScroll: true });
});
box.addEventListener("mouseover", event => {
  const token = event.target.closest("[data-row]");
  const row = token ? Number(token.dataset.row) : null;
  if (row !== hovered) { hovered = row; drawPanel(); }
});
box.addEventListener("mouseleave", () => { hovered = null; drawPanel(); });

function goTo(index) {
  const passage = passages(theRun())[index];
  if (passage) showRow(passage.start);
}
byId("previous").addEventListener("click", () => goTo(state.passage - 1));
byId("next").addEventListener("click", () => goTo(state.passage + 1));
byId("passage").addEventListener("change", event => goTo(Number(event.target.value)));

view(["run"], () => {
  const run = theRun(), list = passages(run), times = new Map();
  for (const passage of list) times.set(passage.doc, (times.get(passage.doc) || 0) + 1);
  byId("passage").replaceChildren(...list.map(passage => h("option", { value: passage.index }, escaped(run.documents[passage.doc]) +
    (times.get(passage.doc) > 1 ? " \u00b7 sequence " + passage.sequence + (passage.first ? " from " + passage.first : "") : "") + " \u00b7 " + count(passage.length) + " tokens")));
});
view(["run", "passage"], drawPassage);
view(["k", "measure", "theme"], colourPassage);
view(["run", "measure", "theme"], drawLegend);
view(["row", "k", "measure"], markChosen);
