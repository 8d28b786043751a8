// What was measured beside the search: each part's finding, its control, and its table with one column drawn.
function drawBeside() {
  const parts = theRun().beside;
  byId("beside-section").hidden = parts.length === 0;
  put(byId("beside"), parts.map(part => h("div", { class: "beside", "data-kind": part.kind }, h("h3", null, part.title),
    part.says.map(text => h("p", { class: "finding" }, text)), h("p", { class: "says" }, h("b", null, "Control. "), part.control), besideTable(part))));
}

function besideTable(part) {
  const drawn = part.rows.map(row => [row[0], row[part.drawn]]).filter(([, e]) => e);
  const ends = drawn.length ? reach(drawn, true) : null;
  const cell = (value, i) => i && Array.isArray(value) ? withInterval(value) : value === null ? "\u2013" : value;
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "table, scrolls sideways" }, h("table", { class: "plain" },
    h("thead", null, h("tr", null, part.columns.map((name, i) => h("th", { scope: "col", class: i ? "n" : null }, name)),
      h("th", { scope: "col", class: "dots" }, part.columns[part.drawn]))),
    h("tbody", null, part.rows.map((row, r) => h("tr", null, row.map((value, i) => i ? h("td", { class: "n" }, cell(value, i)) : h("th", { scope: "row" }, value)),
      h("td", { class: "dots" }, ends && row[part.drawn] ? dotOf(row[part.drawn], ends, true, part.marks[r]) : null))),
    ends ? h("tr", { class: "scale", "aria-hidden": "true" }, part.columns.map(() => h("td")), h("td", { class: "dots" }, dotScale(ends))) : null)));
}

view(["run"], drawBeside);
