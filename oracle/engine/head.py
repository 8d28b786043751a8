"""The vocabulary head in blocks: log-sum-exp, logits of single labels, and the gradient of the log-sum-exp, without ever
holding leaves x vocabulary.

The head's arithmetic is float32 at least, whatever the layers' dtype is, for it decides between nearly equal patterns.

Axes: M states, D hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.engine.device import at_once
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.reference import Reference

_BLOCK_LOGITS = 1 << 18  # a block of logits stays in the cache of a core
_GPU_LOGITS = 1 << 27  # or takes half a GiB of a GPU
_CACHED_WEIGHTS = 1 << 22  # beyond so many the weights do not, and each block reads them anew: then it has rows to make up for it
_DIRECTION_ROWS = 1 << 13  # of the weights, held in float64 at once
_LEAST_ROWS, _LEAST_ROWS_UNCACHED = 16, 128


@dataclass(frozen=True)
class Tangent:
    """The log-sum-exp at evaluated states, and its gradient there: lse(h') >= lse + gradient.(h' - h) for every h'."""

    lse_M: Tensor
    gradient_MD: Tensor


@dataclass(frozen=True)
class Distributions:
    """Targets of N positions that are distributions q over the vocabulary: a `Reference`, as tensors of a head."""

    direction_ND: Tensor
    offset_N: Tensor
    q_NV: Tensor | None


class Head:
    """The vocabulary head of a model: logits of h are `h @ w_VD.T`, where h is the state after the final norm; plus a bias, and
    softly capped, where the model has these."""

    def __init__(self, model: OracleModel) -> None:
        self._model = model
        self.dtype = torch.promote_types(model.dtype, torch.float32)
        self.w_VD = model.unembedding_VD.to(self.dtype).contiguous()
        self.longest = float(torch.linalg.vector_norm(self.w_VD, dim=1).max())
        """The greatest norm of a vocabulary row: no gradient of the log-sum-exp is longer."""
        self.bias_V = None if model.logit_bias_V is None else model.logit_bias_V.to(self.dtype)
        self.greatest_bias = 0.0 if self.bias_V is None else float(self.bias_V.abs().max())
        self.softcap = model.logit_softcap
        self.convex = self.softcap is None
        """Whether the log-sum-exp is convex in h, so that its tangents bound it from below."""
        self.cached = self.w_VD.numel() <= _CACHED_WEIGHTS
        """Whether the weights stay in a cache, so that few states cost no more each than many."""

    def states(self, x: Tensor) -> Tensor:
        """h: the states (..., D) after the final norm, in the head's dtype."""
        return self._model.final_norm(x).to(self.dtype)

    def lse(self, h_MD: Tensor) -> Tensor:
        """log sum_v exp(w_v.h) of every state, shape (M,)."""
        return torch.cat([_exponentials(self.logits(h_MD[rows]))[0] for rows in self._blocks(h_MD)])

    def tangent(self, h_MD: Tensor) -> Tangent:
        """Log-sum-exp and its gradient sum_v softmax(W h)_v w_v at every state. Of a convex head alone."""
        assert self.convex
        lse, gradient = [], []
        for rows in self._blocks(h_MD):
            lse_M, p_MV, sum_M1 = _exponentials(self.logits(h_MD[rows]))
            lse.append(lse_M)
            gradient.append((p_MV @ self.w_VD).div_(sum_M1))
        return Tangent(torch.cat(lse), torch.cat(gradient))

    def label_logits(self, h_MD: Tensor, label_M: Tensor) -> Tensor:
        """The logit of every state's own label y, shape (M,)."""
        logit_M = torch.linalg.vecdot(h_MD, self.w_VD[label_M])
        return self._capped(logit_M if self.bias_V is None else logit_M + self.bias_V[label_M])

    def labels_logits(self, h_NPD: Tensor, label_NY: Tensor) -> Tensor:
        """The logits of a position's labels at all its states, shape (N, Y, P)."""
        logit_NYP = self.w_VD[label_NY] @ h_NPD.transpose(1, 2)
        return self._capped(logit_NYP if self.bias_V is None else logit_NYP + self.bias_V[label_NY][:, :, None])

    def expected_logits(self, h_NPD: Tensor, target: Distributions) -> Tensor:
        """E_q of the logits of all states of a position under its distribution q, shape (N, P)."""
        if target.q_NV is None:
            logit_NP = torch.matmul(h_NPD, target.direction_ND[:, :, None])[..., 0]
            return logit_NP if self.bias_V is None else logit_NP + target.offset_N[:, None]
        rows = zip(h_NPD, target.q_NV, strict=True)
        return torch.stack([torch.cat([self.logits(h_PD[part]) @ q_V for part in self._blocks(h_PD)]) for h_PD, q_V in rows])

    def expected_logit(self, h_MD: Tensor, target: Distributions, position_M: Tensor) -> Tensor:
        """E_q of the logits of every state under the distribution q of its position, shape (M,)."""
        if target.q_NV is None:
            logit_M = torch.linalg.vecdot(h_MD, target.direction_ND[position_M])
            return logit_M if self.bias_V is None else logit_M + target.offset_N[position_M]
        blocks = self._blocks(h_MD)
        return torch.cat([torch.linalg.vecdot(self.logits(h_MD[rows]), target.q_NV[position_M[rows]]) for rows in blocks])

    def directions(self, q_NV: Tensor) -> tuple[Tensor, Tensor]:
        """sum_v q_v w_v (N, D) and sum_v q_v b_v (N,) of N distributions: in the head's dtype, summed in float64."""
        q_NV = q_NV.double()
        direction_ND = q_NV.new_zeros((len(q_NV), self.w_VD.shape[1]))
        for words in chunks(len(self.w_VD), _DIRECTION_ROWS):
            direction_ND += q_NV[:, words] @ self.w_VD[words].double()
        offset_N = q_NV.new_zeros(len(q_NV)) if self.bias_V is None else q_NV @ self.bias_V.double()
        return direction_ND.to(self.dtype), offset_N.to(self.dtype)

    def distributions(self, reference: Reference) -> Distributions:
        """A reference's positions as targets of this head."""
        values = (reference.direction_ND, reference.offset_N, reference.q_NV)
        return Distributions(*(None if v is None else torch.from_numpy(v).to(self.w_VD) for v in values))  # type: ignore[arg-type]

    def probabilities(self, h_MD: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """softmax(W h / temperature) in float64, shape (M, V): for a few states. A temperature each has shape (M, 1)."""
        return torch.softmax(self.logits(h_MD).double() / temperature, dim=1)

    def entropy(self, h_MD: Tensor) -> Tensor:
        """The entropy of softmax(W h) in nats, float64 (M,). One state at a time, so that it does not depend on which others there
        are; on a GPU, which would read the whole head for each, so many as a block holds."""
        if h_MD.device.type == "cpu":
            return torch.stack([_entropy(self.logits(h_D)) for h_D in h_MD])
        return torch.cat([_entropy(self.logits(h_MD[rows])) for rows in self._blocks(h_MD)])

    def logits(self, h: Tensor) -> Tensor:
        """Logits (..., V): of so many states as a block holds."""
        return self._capped(F.linear(h, self.w_VD, self.bias_V))

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def _blocks(self, h_MD: Tensor) -> list[slice]:
        least = _LEAST_ROWS if self.cached else _LEAST_ROWS_UNCACHED
        n_logits = at_once(h_MD.device, _BLOCK_LOGITS, _GPU_LOGITS)
        return list(chunks(len(h_MD), max(least, n_logits // len(self.w_VD)))) or [slice(0, 0)]


def _entropy(logits: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits.double(), dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def _exponentials(logits_MV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The log-sum-exp of every row; exp(logit - greatest), in the place of the logits; and their sum. torch.logsumexp takes ten
    times as long for rows of 50,000."""
    top_M1 = logits_MV.amax(dim=1, keepdim=True)
    p_MV = logits_MV.sub_(top_M1).exp_()
    sum_M1 = p_MV.sum(dim=1, keepdim=True)
    return (top_M1 + sum_M1.log())[:, 0], p_MV, sum_M1
