// Colours: ramps that grow evenly in lightness (so they read without colour), for light and dark, and the ink upon them.
const RAMPS = {
  light: {
    heat: ["#ffffff", "#fff0dc", "#fdd09b", "#f7a254", "#df6a22", "#a63d10", "#631f0a"],
    cold: ["#ffffff", "#e4eef9", "#b5d2ee", "#74a9db", "#3a7bbb", "#195090", "#0b2e5c"],
    compute: ["#ffffff", "#e2f3f0", "#b3ded6", "#6fbdb2", "#31958b", "#126c66", "#054643"],
  },
  dark: {
    heat: ["#1c2025", "#3a281a", "#633817", "#975219", "#cd7a2c", "#f2b26b", "#ffe8cb"],
    cold: ["#1c2025", "#1d2c3e", "#214463", "#296593", "#408cc7", "#86bdea", "#deefff"],
    compute: ["#1c2025", "#173431", "#17504b", "#1e756c", "#3aa094", "#82cfc3", "#dcf6f0"],
  },
};
const parsed = {};
for (const [theme, ramps] of Object.entries(RAMPS)) {
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
