"""How well all-big's own probabilities describe the text: calibration error, entropy against loss, and the temperature that fits.

An all-big that is overconfident on held-out text makes every other pattern look good, so its calibration stands beside the
excess. Were the text drawn from all-big, its mean loss would be its mean entropy; a loss above it is overconfidence. The
temperature that makes the text most likely is fitted on other documents than it is used for (leave one document out). Numbers
only, no model.

The expected calibration error is Naeini's (2015) and Guo's (2017): tokens in bins by the probability of the likeliest token, the
absolute difference of mean probability and share of hits, weighted by the tokens of the bin. It is above zero for a perfect model
too, by chance: what as many tokens of a calibrated model would show is given beside it.

Axes: N tokens, D documents, G temperatures of the grid, M measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate, bootstrap

GRID = np.exp(np.linspace(np.log(0.25), np.log(4.0), 33))
"""Temperatures at which the loss is known; the best one is found between them by a parabola in log T."""
BINS = 15
_CHANCE_DRAWS = 200


@dataclass(frozen=True)
class FullTokens:
    """What all-big said of every token, losses and entropies in nats."""

    document_N: np.ndarray
    loss_N: np.ndarray
    entropy_N: np.ndarray
    confidence_N: np.ndarray  # of the likeliest token
    hit_N: np.ndarray  # bool: it was that one
    loss_NG: np.ndarray  # at every temperature of GRID

    @classmethod
    def of(cls, parts: Sequence[FullTokens]) -> FullTokens:
        """The tokens of all parts."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Calibration:
    """All-big's calibration on a text. The temperature is None where there is one document, hence no other to fit on."""

    loss: Estimate
    entropy: Estimate
    overconfidence: Estimate  # loss - entropy, paired
    error: float
    error_by_chance: float
    temperature_in_sample: float
    temperature: tuple[float, float] | None  # least and greatest of those fitted on other documents
    loss_tempered: Estimate | None
    tempering_gains: Estimate | None  # loss - loss at the temperature fitted on other documents, paired

    def rows(self) -> list[dict]:
        """A row per figure: what, mean, low, high."""
        named = [("mean loss", self.loss), ("mean entropy", self.entropy), ("loss - entropy", self.overconfidence)]
        rows = [{"what": what, "mean": e.mean, "low": e.low, "high": e.high} for what, e in named]
        rows.append({"what": "expected calibration error", "mean": self.error})
        rows.append({"what": "the same for a calibrated model, by chance", "mean": self.error_by_chance})
        rows.append({"what": "temperature, fitted on all documents", "mean": self.temperature_in_sample})
        if self.temperature is not None and self.loss_tempered is not None and self.tempering_gains is not None:
            low, high = self.temperature
            rows.append({"what": "temperature, fitted on other documents (range)", "low": low, "high": high})
            named = [("loss at that temperature", self.loss_tempered), ("what tempering gains", self.tempering_gains)]
            rows += [{"what": what, "mean": e.mean, "low": e.low, "high": e.high} for what, e in named]
        return rows

    def __str__(self) -> str:
        rows = []
        for row in self.rows():
            mean, low, high = (row.get(name) for name in ("mean", "low", "high"))
            interval = "" if low is None or np.isnan(low) else f"[{low:.3f}, {high:.3f}]"
            rows.append([row["what"], "" if mean is None else f"{mean:.3f}", interval])
        return "\n".join(aligned(rows, [False, True, False]))


def calibration(tokens: FullTokens) -> Calibration:
    """The calibration of all-big on these tokens."""
    names, document_N = np.unique(tokens.document_N, return_inverse=True)
    columns = [tokens.loss_N, tokens.entropy_N, tokens.loss_N - tokens.entropy_N]
    temperature_of = fit_on_others(tokens)
    if temperature_of:
        at_N = np.array([temperature_of[name] for name in names])[document_N]
        tempered_N = _loss_at(tokens.loss_NG, at_N)
        columns += [tempered_N, tokens.loss_N - tempered_N]
    loss, entropy, over, *tempered = bootstrap(np.stack(columns, axis=1), document_N)
    return Calibration(
        loss=loss,
        entropy=entropy,
        overconfidence=over,
        error=calibration_error(tokens.confidence_N, tokens.hit_N),
        error_by_chance=_error_by_chance(tokens.confidence_N),
        temperature_in_sample=best_temperature(tokens.loss_NG.sum(axis=0)),
        temperature=(min(temperature_of.values()), max(temperature_of.values())) if temperature_of else None,
        loss_tempered=tempered[0] if tempered else None,
        tempering_gains=tempered[1] if tempered else None,
    )


def calibration_error(confidence_N: np.ndarray, hit_N: np.ndarray, bins: int = BINS) -> float:
    """sum over bins of share of tokens x |share of hits - mean confidence|, bins of equal width between 0 and 1."""
    bin_N = np.minimum((np.asarray(confidence_N) * bins).astype(int), bins - 1)
    difference_B = np.bincount(bin_N, weights=np.asarray(hit_N, dtype=np.float64) - confidence_N, minlength=bins)
    return float(np.abs(difference_B).sum() / len(bin_N))


def fit_on_others(tokens: FullTokens) -> dict[str, float]:
    """For every document the temperature that makes all *others* most likely, to three decimals; empty for one document."""
    names, document_N = np.unique(tokens.document_N, return_inverse=True)
    if len(names) < 2:
        return {}
    loss_DG = np.zeros((len(names), len(GRID)))
    np.add.at(loss_DG, document_N, tokens.loss_NG)
    others_DG = loss_DG.sum(axis=0) - loss_DG
    return {str(name): round(best_temperature(others_G), 3) for name, others_G in zip(names, others_DG, strict=True)}


def best_temperature(loss_G: np.ndarray) -> float:
    """The temperature of least loss: where the parabola through the least of the grid and its neighbours is lowest, in log T."""
    least = int(np.clip(np.argmin(loss_G), 1, len(GRID) - 2))
    before, at, after = loss_G[least - 1 : least + 2]
    bend = before - 2 * at + after
    shift = 0.0 if bend <= 0 else float(np.clip((before - after) / (2 * bend), -1, 1))
    step = float(np.log(GRID[1] / GRID[0]))
    return float(GRID[least] * np.exp(shift * step))


def _loss_at(loss_NG: np.ndarray, temperature_N: np.ndarray) -> np.ndarray:
    """Every token's loss at its own temperature, by the parabola through the three nearest of the grid, in log T."""
    place_N = np.log(temperature_N / GRID[0]) / np.log(GRID[1] / GRID[0])
    middle_N = np.clip(np.round(place_N).astype(int), 1, len(GRID) - 2)
    row_N, u_N = np.arange(len(loss_NG)), place_N - middle_N
    before_N, at_N, after_N = (loss_NG[row_N, middle_N + shift] for shift in (-1, 0, 1))
    return at_N + u_N * (after_N - before_N) / 2 + u_N**2 * (before_N - 2 * at_N + after_N) / 2


def _error_by_chance(confidence_N: np.ndarray) -> float:
    rng = np.random.default_rng(0)
    drawn = [calibration_error(confidence_N, rng.random(len(confidence_N)) < confidence_N) for _ in range(_CHANCE_DRAWS)]
    return float(np.mean(drawn))
