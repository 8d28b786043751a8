"""Plain all-big passes over sequences: what all-big says of every token, and the temperature that fits it on other documents.

Every token of the sequence takes all-big, so that this is the model a user would run, whatever a run's context is.

Axes: T token, V vocabulary, L layer, G temperatures of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel, losses_of, token_ids_on
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.calibration import GRID, FullTokens, fit_on_others

_ROWS = 64  # tokens whose distributions are held at once


def full_tokens(model: OracleModel, sequences: Iterable[Window]) -> FullTokens:
    """What all-big says of every scored token, one forward pass a sequence."""
    return FullTokens.of([_of_sequence(model, sequence) for sequence in sequences])


def fitted_temperatures(model: OracleModel, sequences: Iterable[Window]) -> dict[str, float]:
    """The temperature of every document, fitted on all others. Raises InputError where there is one document alone."""
    temperatures = fit_on_others(full_tokens(model, sequences))
    if not temperatures:
        raise InputError("a temperature is fitted on other documents; the data is one document (give `null_temperature` a number)")
    return temperatures


@torch.no_grad()
def _of_sequence(model: OracleModel, sequence: Window) -> FullTokens:
    token_id_T = token_ids_on(model.device, sequence.token_ids)
    shape = (1, len(token_id_T) - 1, model.n_letters)
    mask_1TL = torch.full(shape, int(Branch.BIG), dtype=torch.uint8, device=model.device)
    logits_TV = model.forward(token_id_T[None, :-1], mask_1TL, SkipReading.FFN)[0, sequence.n_warm :]
    parts = []
    for rows in chunks(len(logits_TV), _ROWS):
        z_TV, target_T = logits_TV[rows].double(), token_id_T[sequence.n_warm + 1 :][rows]
        log_p_TV = torch.log_softmax(z_TV, dim=1)
        p_TV = log_p_TV.exp()
        confidence_T, likeliest_T = p_TV.max(dim=1)
        loss_TG = torch.stack([losses_of(z_TV / t, target_T) for t in GRID.tolist()], dim=1)
        parts.append(
            FullTokens(
                document_N=np.array([sequence.document] * len(z_TV)),
                loss_N=losses_of(z_TV, target_T).cpu().numpy(),
                entropy_N=-(p_TV * log_p_TV).sum(dim=1).cpu().numpy(),
                confidence_N=confidence_T.cpu().numpy(),
                hit_N=(likeliest_T == target_T).cpu().numpy(),
                loss_NG=loss_TG.cpu().numpy(),
            )
        )
    return FullTokens.of(parts)
