// Data: the page's JSON, columns decoded when they are first asked for, and the measures over them. Draws nothing.
const report = JSON.parse(document.getElementById("data").textContent);
const TYPES = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array };
const decoded = new Map();

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function column(run, name) {
  const spec = run.columns[name];
  if (spec === undefined) return null;
  const key = "block" in spec ? spec.block : spec;
  let values = decoded.get(key);
  if (values === undefined) {
    if ("block" in spec) {
      const bytes = bytesOf(document.getElementById("block-" + spec.block).textContent);
      values = new TYPES[spec.kind](bytes.buffer, bytes.byteOffset, bytes.length / TYPES[spec.kind].BYTES_PER_ELEMENT);
    } else {
      values = new Float64Array(spec.length).fill(spec.constant === null ? NaN : spec.constant);
    }
    decoded.set(key, values);
  }
  return values;
}

const difference = (a, b) => a.map((value, i) => value - b[i]);
const losses = (run, k, name) => Float64Array.from(column(run, name + "." + k));

// Texts here are of all-small, all-big and big layers; a run has its own words for them: all-skip, or the full model and active experts.
const capital = (text, first) => first === first.toUpperCase() ? text[0].toUpperCase() + text.slice(1) : text;
const inWords = (run, text) => text.replace(/\b(a)ll-(small|big)\b/gi, (_, first, which) => capital(which === "big" ? run.words.full : run.cheapest, first))
  .replace(/\b(b)ig layers\b/gi, (_, first) => capital(run.words.unit, first));

// key, name, what it says, colours (heat: nats; compute: costs), values of all tokens under budget k
const MEASURES = [
  ["difficulty", "Difficulty", "all-small loss minus the oracle's: what compute can buy", "heat",
    (run, k) => difference(losses(run, k, "loss_cheapest"), losses(run, k, "loss"))],
  ["gain", "Gain over all-big", "all-big loss minus the oracle's, selection bias included", "heat",
    (run, k) => difference(losses(run, k, "loss_full"), losses(run, k, "loss"))],
  ["null_gain", "Null gain", "the gain on labels drawn from all-big: selection bias alone", "heat", (run, k) => losses(run, k, "null_gain")],
  ["excess", "Excess", "gain minus null gain: what selection bias does not explain", "heat",
    (run, k) => difference(difference(losses(run, k, "loss_full"), losses(run, k, "loss")), losses(run, k, "null_gain"))],
  ["excess_difficulty", "Excess difficulty", "difficulty minus that on labels drawn from all-big", "heat", (run, k) => losses(run, k, "excess_difficulty")],
  ["entropy_full", "All-big entropy", "how uncertain all-big is of the next token", "heat", run => Float64Array.from(column(run, "entropy_full"))],
  ["compute", "All-small minus all-big", "what compute everywhere buys", "heat",
    (run, k) => difference(losses(run, k, "loss_cheapest"), losses(run, k, "loss_full"))],
  ["loss", "Oracle loss", "loss under the best pattern", "heat", (run, k) => losses(run, k, "loss")],
  ["loss_cheapest", "All-small loss", "loss of all-small", "heat", (run, k) => losses(run, k, "loss_cheapest")],
  ["loss_full", "All-big loss", "loss of all-big", "heat", (run, k) => losses(run, k, "loss_full")],
  ["n_big", "Big layers", "big layers in the oracle path", "compute",
    (run, k) => Float64Array.from(column(run, "pattern." + k), code => costsOf(run)[code])],
].map(([key, name, says, family, values]) => ({ key, name, says, family, values }));

const unknown = (run, name) => run.columns[name].constant === null;
function measuresOf(run) {
  const missing = key => ["null_gain", "excess_difficulty", "entropy_full"].includes(key) && unknown(run, key === "entropy_full" ? key : key + ".0");
  const found = MEASURES.filter(m => !missing(m.key === "excess" ? "null_gain" : m.key))
    .map(m => ({ ...m, name: inWords(run, m.name), says: inWords(run, m.says) }));
  run.routers.forEach((router, r) => {
    if (!column(run, "routed." + r) || router.loss === null) return;
    found.push({ key: "routed." + r, name: router.name + ": loss", says: "loss under the router's choice", family: "heat",
      values: () => Float64Array.from(column(run, "routed." + r)) });
    found.push({ key: "regret." + r, name: router.name + ": regret", says: "router's loss minus the oracle's", family: "heat",
      values: (one, k) => difference(Float64Array.from(column(one, "routed." + r)), losses(one, k, "loss")) });
  });
  return found;
}

const measureOf = (run, key) => measuresOf(run).find(m => m.key === key) || measuresOf(run)[0];

const computed = new Map();
function valuesOf(run, key, k) {
  const id = report.runs.indexOf(run) + "|" + key + "|" + k;
  if (!computed.has(id)) {
    if (computed.size > 60) computed.clear();
    computed.set(id, measureOf(run, key).values(run, k));
  }
  return computed.get(id);
}

// What letters cost, and each pattern of the run.
const letterCosts = run => new Map(run.letters.map(({ letter, cost }) => [letter, cost]));
const dearest = run => Math.max(1, ...run.letters.map(({ cost }) => cost));
const patternCosts = new Map();
function costsOf(run) {
  const costs = letterCosts(run);
  if (!patternCosts.has(run)) patternCosts.set(run, run.patterns.map(p => [...p].reduce((sum, letter) => sum + costs.get(letter), 0)));
  return patternCosts.get(run);
}

const patternAt = (run, row, k) => run.patterns[column(run, "pattern." + k)[row]];

const classesOf = (run, k) => column(run, "class." + k);

// A long sequence is shown in passages of so many tokens. `offset` is where a passage's pieces begin.
const LONGEST = 1024;
const passageLists = new Map();
function passages(run) {
  if (!passageLists.has(run)) {
    const list = [];
    run.passages.forEach(([sequence, doc, start, length, first], place) => {
      for (let skip = 0; skip < length; skip += LONGEST) {
        list.push({ sequence, doc, start: start + skip, offset: start + skip + place, length: Math.min(LONGEST, length - skip), first: first + skip, index: list.length });
      }
    });
    passageLists.set(run, list);
  }
  return passageLists.get(run);
}

function passageOfRow(run, row) {
  const list = passages(run);
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (list[middle].start <= row) low = middle; else high = middle - 1;
  }
  return list[low];
}

// The i-th token of a passage as it reads; a passage has one token more than rows, its last being only predicted.
const pieceAt = (run, passage, i) => run.pieces[column(run, "piece")[passage.offset + i]];
const targetOf = (run, row) => {
  const passage = passageOfRow(run, row);
  return pieceAt(run, passage, row - passage.start + 1);
};

// Letters that steer rather than show (controls, direction overrides, line separators, lone surrogates) as escapes.
const STEERING = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const escaped = text => text.replace(STEERING, c => {
  if (c === "\n" || c === "\t" || c === "\u200c" || c === "\u200d") return c;
  return "\\u" + c.codePointAt(0).toString(16).padStart(4, "0");
});
const inText = text => escaped(text).replace(/\n/g, "\u23ce\n").replace(/\t/g, "\u21e5\t");
const inLine = text => escaped(text).replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5");
const named = text => inLine(text).replace(/^ | $/g, "\u2423");
