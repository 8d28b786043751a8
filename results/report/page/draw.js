// Drawing: elements, SVG, scales, numbers and routing patterns. Text goes in as text nodes only, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined).map(child =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const put = (element, ...children) => { element.replaceChildren(); fill(element, null, children); };
const byId = id => document.getElementById(id);

const number = (value, digits = 3) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "\u2212" : "") + text;
};
const count = value => value.toLocaleString("en-US");
const percent = value => (100 * value).toFixed(1) + "%";
const known = estimate => estimate && Number.isFinite(estimate[1]) && Number.isFinite(estimate[2]);
const interval = (estimate, digits = 3) => known(estimate) ? "[" + number(estimate[1], digits) + ", " + number(estimate[2], digits) + "]" : "";
const perplexity = estimate => {
  if (!estimate) return "";
  const value = Math.exp(Math.min(estimate[0], 700));
  return value < 1e6 ? value.toFixed(2) : value.toExponential(1);
};

function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(m => m * power >= rough * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push([i * step, digits]);
  return found;
}
const scale = (low, high, from, to) => value => from + (value - low) / ((high - low) || 1) * (to - from);
const pathOf = points => points.map(([x, y], i) => (i ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");

// A routing pattern as one cell a layer, by the layer's number in the model: filled with the dearest branch, pale with others, empty
// with one of a dot, or of no experts.
function cells(pattern, small) {
  const layers = theRun().layerNumbers, branch = new Map(theRun().letters.map(one => [one.letter, one]));
  const said = [...pattern].map((letter, i) => layers[i] + " " + branch.get(letter).name).join(", ");
  return h("span", { class: "cells" + (small ? " small" : ""), role: "img", "aria-label": "path, layer by layer: " + said, "data-pattern": pattern },
    [...pattern].map((letter, i) => h("span", { class: "cell " + branch.get(letter).look, title: "layer " + layers[i] + ": " + branch.get(letter).name }, letter)));
}

// What is shown, and who draws it: a view names what it depends on and is drawn again when that changes.
const state = { run: 0, k: 0, measure: "difficulty", passage: 0, row: 0, theme: null, width: 0 };
const views = [];
const view = (keys, draw) => views.push({ keys, draw });
const theRun = () => report.runs[state.run];
function change(parts) {
  const changed = Object.keys(parts).filter(key => state[key] !== parts[key]);
  Object.assign(state, parts);
  for (const { keys, draw } of views) if (keys.some(key => changed.includes(key))) draw();
}
function showRow(row) {
  change({ row, passage: passageOfRow(theRun(), row).index });
}
