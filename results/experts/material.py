"""What the claims are made of: trained mixtures, measured on text.

Axes: N scored tokens, S training steps, L layers with experts, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.experts.beside_patterns import BesidePatterns
from duo_oracle.results.experts.seeds import Values


@dataclass(frozen=True)
class Measured:
    """One mixture on one source of text."""

    document_N: np.ndarray
    position_N: np.ndarray
    """Place in the window."""
    causal_N: np.ndarray
    """Loss as the model is used, nats."""
    protocol_N: np.ndarray | None
    """Loss under the training's own protocol, nats; None of text that is not packed as the training's was."""
    chosen_NLE: np.ndarray
    """Experts taken in the causal pass, bool."""
    early_NLE: np.ndarray
    """Those that the model took when a quarter of its training was done."""

    @property
    def fan_out_N(self) -> np.ndarray:
        """Experts per token and layer."""
        return self.chosen_NLE.sum(axis=2).mean(axis=1)


@dataclass(frozen=True)
class Trained:
    """One training: its rule, its seed, and what became of it."""

    rule: str
    seed: int
    rate: float
    """The target share of tokens for an expert."""
    measured: Mapping[str, Measured]
    below_S: np.ndarray
    """Share of the experts that had fewer tokens over their cutoff than the capacity, in every step; NaN where there is none."""
    above_S: np.ndarray
    beside: Mapping[str, BesidePatterns] = field(default_factory=dict)
    """By source, of the mixtures whose routes were searched."""


@dataclass(frozen=True)
class Trainings:
    """All of them."""

    trained: Sequence[Trained]

    @property
    def sources(self) -> list[str]:
        return list(self.trained[0].measured)

    @property
    def rules(self) -> list[str]:
        return list(dict.fromkeys(one.rule for one in self.trained))

    def of(self, rule: str, seeds: Sequence[int] | None = None) -> list[Trained]:
        """The trainings by a rule, by seed. Raises InputError where there is none."""
        found = sorted(
            (one for one in self.trained if one.rule == rule and (seeds is None or one.seed in seeds)), key=lambda one: one.seed
        )
        if not found:
            raise InputError(f"no mixture was trained by {rule}")
        return found

    def shared(self, *rules: str) -> list[int]:
        """The seeds that all these rules were trained from."""
        seeds = [{one.seed for one in self.of(rule)} for rule in rules]
        return sorted(set.intersection(*seeds))

    @property
    def searched(self) -> list[str]:
        """The sources on which routes were searched."""
        return list(dict.fromkeys(source for one in self.trained for source in one.beside))

    def of_routes(self, rule: str, source: str, of: Callable[[BesidePatterns], np.ndarray]) -> list[Values]:
        """A value of every searched token of a rule's models."""
        searched = [one.beside[source] for one in self.of(rule) if source in one.beside]
        return [Values(each.document_N, of(each)) for each in searched]

    def losses(self, rule: str, source: str, seeds: Sequence[int]) -> list[Values]:
        """Causal losses of a rule's models."""
        measured = [one.measured[source] for one in self.of(rule, seeds)]
        return [Values(each.document_N, each.causal_N) for each in measured]
