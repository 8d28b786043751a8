"""What was found, and the questions asked of it: `results.load("runs/x").paths()` gives pandas. Imports no torch, no Ray."""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle.results.api.run import Run, load, query

__all__ = ["Run", "load", "query"]

__getattr__, __dir__ = face(__name__, dict.fromkeys(__all__, "duo_oracle.results.api.run"))
