// The table of all tokens: filtered, sorted, and drawn only where it is in view. A chosen row is shown in the text.
const ROW = 30;
const table = { rows: new Int32Array(0), sort: "difficulty", down: true, active: 0 };

function tableColumns(run) {
  const numeric = measuresOf(run).filter(m => m.key !== "compute");
  return [
    { key: "target", name: "token", width: 310 },
    { key: "document", name: "document", width: 176 },
    { key: "position", name: "position", width: 70, n: true },
    ...numeric.map(m => ({ key: m.key, name: m.key === "n_big" ? (run.words.experts ? "cost" : "big") : m.name.toLowerCase(), width: m.key === "n_big" ? 44 : Math.max(78, 8 + 7.4 * m.name.length), n: true, measure: m })),
    { key: "class", name: "class", width: 92 },
  ];
}

// Every row has the same width, or columns would not stand under each other; the first one takes what room is left.
const rowShape = columns => ({
  gridTemplateColumns: columns.map((c, i) => i ? c.width + "px" : "minmax(" + c.width + "px, 1fr)").join(" "),
  width: 28 + columns.reduce((sum, c) => sum + c.width + 14, -14) + "px",
});

function sortValues(run, key) {
  if (key === "position") return column(run, "position");
  if (key === "class") return classesOf(run, state.k);
  if (key === "document") return column(run, "document");
  if (key === "target") {
    const order = new Map(run.pieces.map((piece, i) => [piece, i]).sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([, i], rank) => [i, rank]));
    const pieces = column(run, "piece");
    return Float64Array.from({ length: run.rows }, (_, row) => order.get(pieces[passageOfRow(run, row).offset + row - passageOfRow(run, row).start + 1]));
  }
  return valuesOf(run, key, state.k);
}

function filterTokens() {
  const run = theRun(), text = byId("filter-text").value.toLowerCase();
  const doc = byId("filter-document").value, one = byId("filter-class").value;
  const least = byId("filter-least").value, most = byId("filter-most").value;
  const documents = column(run, "document"), values = valuesOf(run, state.measure, state.k), classes = classesOf(run, state.k);
  const holds = text ? run.pieces.map(piece => piece.toLowerCase().includes(text) || inLine(piece).toLowerCase().includes(text)) : null;
  const pieces = column(run, "piece"), found = [];
  for (const passage of passages(run)) {
    if (doc !== "" && passage.doc !== Number(doc)) continue;
    for (let i = 0; i < passage.length; i++) {
      const row = passage.start + i;
      if (holds && !holds[pieces[passage.offset + i + 1]]) continue;
      if (one !== "" && classes[row] !== Number(one)) continue;
      if (least !== "" && !(values[row] >= Number(least))) continue;
      if (most !== "" && !(values[row] <= Number(most))) continue;
      found.push(row);
    }
  }
  const by = sortValues(run, table.sort), sign = table.down ? -1 : 1;
  const key = row => Number.isNaN(by[row]) ? Infinity : sign * by[row];
  table.rows = Int32Array.from(found).sort((a, b) => key(a) - key(b) || a - b);
  table.active = 0;
  byId("filter-count").textContent = count(found.length) + " of " + count(run.rows) + " tokens; ranges are of " + measureOf(run, state.measure).name.toLowerCase() +
    ", budget " + run.budgets[state.k].name + ". Choose a row to see it in the text.";
  drawTable();
}

function drawTable() {
  const run = theRun(), columns = tableColumns(run), shape = rowShape(columns);
  const head = h("div", { class: "row head", role: "row", "aria-rowindex": 1 }, columns.map(c => h("span", { role: "columnheader", class: c.n ? "n" : null,
    "aria-sort": table.sort === c.key ? (table.down ? "descending" : "ascending") : "none" },
  h("button", { type: "button", class: "link", "data-sort": c.key, onclick: () => sortBy(c) }, c.name, table.sort === c.key ? (table.down ? " \u2193" : " \u2191") : ""))));
  const body = h("div", { class: "body", role: "rowgroup" });
  body.style.height = table.rows.length * ROW + "px";
  const grid = byId("tokens");
  const scroll = grid.firstElementChild ? grid.firstElementChild.scrollLeft : 0;
  const scroller = h("div", { class: "scroller", role: "grid", tabindex: 0, "aria-label": "Tokens", "aria-rowcount": table.rows.length + 1, onscroll: drawRows, onkeydown: moveRow }, head, body);
  Object.assign(head.style, shape);
  grid.replaceChildren(scroller);
  scroller.scrollLeft = scroll;
  drawRows();
}

function drawRows() {
  const scroller = byId("tokens").firstElementChild;
  if (!scroller) return;
  const run = theRun(), columns = tableColumns(run), body = scroller.lastElementChild;
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 6), last = Math.min(table.rows.length, first + Math.ceil(scroller.clientHeight / ROW) + 12);
  const shape = rowShape(columns);
  const series = columns.map(c => c.measure ? valuesOf(run, c.key, state.k) : null);
  const classes = classesOf(run, state.k), position = column(run, "position"), rows = [];
  for (let at = first; at < last; at++) {
    const row = table.rows[at], passage = passageOfRow(run, row), i = row - passage.start;
    const around = (from, to) => { let text = ""; for (let j = Math.max(0, from); j < Math.min(passage.length + 1, to); j++) text += inLine(pieceAt(run, passage, j)); return text; };
    const line = h("div", { class: "row" + (at === table.active ? " active" : ""), role: "row", id: "row-" + at, "data-at": at, "data-row": row, "aria-rowindex": at + 2,
      "aria-selected": row === state.row ? "true" : "false" }, columns.map((c, n) => {
      if (c.key === "target") return h("span", { role: "gridcell", class: "sentence" }, h("span", { class: "before" }, h("bdi", null, around(i - 5, i + 1))), h("bdi", { class: "hit-token" }, inLine(pieceAt(run, passage, i + 1))), h("bdi", null, around(i + 2, i + 6)));
      if (c.key === "document") return h("span", { role: "gridcell" }, escaped(run.documents[passage.doc]));
      if (c.key === "class") return h("span", { role: "gridcell" }, run.classes[classes[row]]);
      if (c.key === "position") return h("span", { role: "gridcell", class: "n" }, position[row]);
      return h("span", { role: "gridcell", class: "n", "data-name": c.key }, number(series[n][row], c.key === "n_big" ? 0 : 3));
    }));
    Object.assign(line.style, shape, { top: at * ROW + "px" });
    rows.push(line);
  }
  body.replaceChildren(...rows);
  scroller.setAttribute("aria-activedescendant", table.rows.length ? "row-" + table.active : "");
}

function sortBy(c) {
  table.down = table.sort === c.key ? !table.down : Boolean(c.measure);
  table.sort = c.key;
  filterTokens();
  const button = byId("tokens").querySelector('[data-sort="' + CSS.escape(c.key) + '"]');
  if (button) button.focus();
}

function showInText(row) {
  showRow(row);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("text").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  const token = tokenAt(row);
  if (!token) return;
  box.scrollTop = token.offsetTop - box.offsetTop - box.clientHeight / 3;
  token.focus({ preventScroll: true });
}

function moveRow(event) {
  if (event.target !== event.currentTarget) return;
  const scroller = event.currentTarget, steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -Infinity, End: Infinity };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (table.rows.length) showInText(table.rows[table.active]);
    return;
  }
  if (!(event.key in steps) || !table.rows.length) return;
  event.preventDefault();
  table.active = Math.max(0, Math.min(table.rows.length - 1, table.active + steps[event.key]));
  const top = table.active * ROW, visible = scroller.clientHeight - 2 * ROW;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top > scroller.scrollTop + visible) scroller.scrollTop = top - visible;
  drawRows();
}

byId("tokens").addEventListener("click", event => {
  const line = event.target.closest("[data-at]");
  if (!line) return;
  table.active = Number(line.dataset.at);
  drawRows();
  showInText(Number(line.dataset.row));
});
for (const id of ["filter-text", "filter-least", "filter-most"]) byId(id).addEventListener("input", filterTokens);
for (const id of ["filter-document", "filter-class"]) byId(id).addEventListener("change", filterTokens);
// The rows that are shown, in their order, with all columns; a text that a spreadsheet would take for a formula begins with an apostrophe.
function csvOf(run) {
  const columns = tableColumns(run), quoted = text => '"' + (/^[=+\-@\t\r]/.test(text) ? "'" + text : text).replace(/"/g, '""') + '"';
  const series = columns.map(c => c.measure ? valuesOf(run, c.key, state.k) : null), classes = classesOf(run, state.k), position = column(run, "position");
  const lines = [["sequence", "pattern", "budget", "context", ...columns.map(c => c.key === "target" ? "token" : c.key)].join(",")];
  for (const row of table.rows) {
    const passage = passageOfRow(run, row);
    lines.push([passage.sequence, patternAt(run, row, state.k), run.budgets[state.k].name, quoted(run.context), ...columns.map((c, n) => {
      if (c.key === "target") return quoted(targetOf(run, row));
      if (c.key === "document") return quoted(run.documents[passage.doc]);
      if (c.key === "position") return position[row];
      if (c.key === "class") return quoted(run.classes[classes[row]]);
      return Number.isNaN(series[n][row]) ? "" : series[n][row];
    })].join(","));
  }
  return lines.join("\r\n") + "\r\n";
}
byId("csv").addEventListener("click", () => {
  const run = theRun(), link = h("a", { download: run.name.replace(/[^\w.-]+/g, "-") + "-tokens.csv" });
  link.href = URL.createObjectURL(new Blob([csvOf(run)], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
byId("filter-clear").addEventListener("click", () => {
  for (const id of ["filter-text", "filter-document", "filter-class", "filter-least", "filter-most"]) byId(id).value = "";
  filterTokens();
});

view(["run"], () => {
  const run = theRun();
  byId("filter-document").replaceChildren(h("option", { value: "" }, "all"), ...run.documents.map((name, i) => h("option", { value: i }, escaped(name))));
  byId("filter-class").replaceChildren(h("option", { value: "" }, "all"), ...shownClasses(run).map(i => h("option", { value: i }, run.classes[i])));
  for (const id of ["filter-text", "filter-least", "filter-most"]) byId(id).value = "";
  if (!tableColumns(run).some(c => c.key === table.sort)) table.sort = "difficulty";
});
view(["run", "k", "measure"], filterTokens);
view(["row"], drawRows);
