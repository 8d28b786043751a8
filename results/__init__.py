"""What was found, and the questions asked of it: `results.load("runs/x").paths()` gives pandas. Imports no torch, no Ray."""

from duo_oracle.results.api import Run, load

__all__ = ["Run", "load"]
