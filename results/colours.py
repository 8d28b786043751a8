"""Every colour of pictures and pages, once: by what is drawn, never by where. Imports nothing.

A colour of a role is the same in every figure, the report and the pages of studies: the oracle red, selection bias orange, what
needs no answer blue and grey.
"""

from __future__ import annotations

ORACLE = "#d62728"  # knows the answer
BIAS = "#ff7f0e"  # what selection bias alone would show
FIXED = "#1f77b4"  # one pattern for all tokens
PLAIN = "#7f7f7f"  # nothing was chosen: random and mean patterns
EXCESS = "#2ca02c"  # what is left beyond selection bias
CONTROL = "#9467bd"  # the same where nothing is chosen
ROUTER = "#2ca02c"  # chosen without the answer, by a router or a reference
INK = "black"  # the full model, axes
FAINT = "0.7"  # the crowd behind a line

CYCLE = tuple(f"C{number}" for number in range(10))
"""Colours of things that have no role, in order: strategies, routers of one kind."""

BRANCHES = ("#f2f2f2", "#9ecae1", "#b2182b")
"""Skip, small, big on a map of choices."""

VERDICTS = {"found": "#2a7d2a", "bias": "#c98a00", "not": "#aa3333"}
"""The edge of a verdict on a study's page."""

HEAT = "heat"
COLD = "cold"
RAMPS = {
    "light": {
        HEAT: ("#ffffff", "#fff0dc", "#fdd09b", "#f7a254", "#df6a22", "#a63d10", "#631f0a"),
        COLD: ("#ffffff", "#e4eef9", "#b5d2ee", "#74a9db", "#3a7bbb", "#195090", "#0b2e5c"),
        "compute": ("#ffffff", "#e2f3f0", "#b3ded6", "#6fbdb2", "#31958b", "#126c66", "#054643"),
    },
    "dark": {
        HEAT: ("#1c2025", "#3a281a", "#633817", "#975219", "#cd7a2c", "#f2b26b", "#ffe8cb"),
        COLD: ("#1c2025", "#1d2c3e", "#214463", "#296593", "#408cc7", "#86bdea", "#deefff"),
        "compute": ("#1c2025", "#173431", "#17504b", "#1e756c", "#3aa094", "#82cfc3", "#dcf6f0"),
    },
}
"""Values of tokens, from zero: ramps that grow evenly in lightness, so that they read without colour; above zero heat."""

PAGE = {
    "light": {
        "page": "#fbfbfa",
        "surface": "#ffffff",
        "ink": "#1b1f23",
        "soft": "#5a626b",
        "line": "#e2e4e6",
        "faint": "#f1f2f2",
        "accent": "#126c66",
        "hot": "#c2500f",
        "cold": "#2a69ab",
        "bias": "#a8780c",
        "grey": "#858c94",
        "focus": "#0b57d0",
    },
    "dark": {
        "page": "#14171a",
        "surface": "#1c2025",
        "ink": "#e6e8ea",
        "soft": "#a0a8b0",
        "line": "#31363c",
        "faint": "#23282d",
        "accent": "#4fb9ac",
        "hot": "#f09a52",
        "cold": "#74ade6",
        "bias": "#d9b04c",
        "grey": "#939ba4",
        "focus": "#8ab4f8",
    },
}
"""The report's own surfaces, letters and marks; each pair that carries text has a contrast of 4.5 or more."""


def css_variables(theme: str) -> str:
    """The colours of a theme of the report as custom properties of CSS: `--page: #fbfbfa; ...`."""
    return " ".join(f"--{name}: {colour};" for name, colour in PAGE[theme].items())
