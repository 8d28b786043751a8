// Colours: ramps that grow evenly in lightness (so they read without colour), for light and dark, and the ink upon them.
const parsed = {};
for (const [theme, ramps] of Object.entries(report.ramps)) {
  parsed[theme] = {};
  for (const [name, stops] of Object.entries(ramps)) {
    parsed[theme][name] = stops.map(s => [1, 3, 5].map(i => parseInt(s.slice(i, i + 2), 16)));
  }
}

const darkSystem = window.matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;
const theme = () => chosenTheme || (darkSystem.matches ? "dark" : "light");

function rampAt(name, share) {
  const stops = parsed[theme()][name];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2), part = at - i;
  return stops[i].map((v, c) => Math.round(v + part * (stops[i + 1][c] - v)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map(v => { const s = v / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const cssColour = rgb => "rgb(" + rgb.join(", ") + ")";

// Whichever of black and white has the greater contrast: at least 4.5 on every colour.
const inkOn = rgb => { const l = luminance(rgb); return (l + 0.05) / 0.05 > 1.05 / (l + 0.05) ? "#000000" : "#ffffff"; };

// The grey that is as light.
function greyOf(rgb) {
  const l = luminance(rgb), grey = Math.round(255 * (l <= 0.0031308 ? 12.92 * l : 1.055 * l ** (1 / 2.4) - 0.055));
  return [grey, grey, grey];
}

function rgbOf(run, measure, value) {
  const [low, high] = run.scales[measure.key], most = Math.max(-low, high);
  if (measure.family === "compute") return rampAt("compute", value / most);
  return value < 0 ? rampAt("cold", -value / most) : rampAt("heat", value / most);
}
