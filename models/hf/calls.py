"""Running parts of a library's module: a forward replaced for a while, a pass stopped where a value is reached, and our attention.

Layers of the library call `attention`. What it does is the call in force (`during`): plain causal attention where there is none,
`Listening` and `Writing` to learn the keys and values that states would leave, `Candidates` for many states of a position over a
stored context. Knows no model, and nothing of patterns.

Axes: G group (rows that share one context), S row of a group, B batch, T token, C context token, H query heads, K key/value head,
r query heads of one key/value head, d head dimension.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Forward = Callable[..., Any]


class Reached(Exception):
    """Ends a pass where its value is at hand."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@contextlib.contextmanager
def patched(pairs: Iterable[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """The modules' forwards replaced for a while. A module may be patched already: what it had comes back."""
    before: list[tuple[dict[str, Any], Any]] = []
    try:
        for module, forward in pairs:
            own = module.__dict__
            before.append((own, own.get("forward")))
            own["forward"] = forward
        yield
    finally:
        for own, old in reversed(before):
            if old is None:
                own.pop("forward", None)
            else:
                own["forward"] = old


def first_state(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The states that a module was called with: its first argument."""
    if args:
        return args[0]
    return kwargs["hidden_states"] if "hidden_states" in kwargs else next(iter(kwargs.values()))


def main_output(out: Any) -> Tensor:
    """The states in what a module returns."""
    return out[0] if isinstance(out, tuple) else out


def in_form(value: Tensor, n_outputs: int) -> Any:
    """The states as a module returns them that gives `n_outputs` things; 0 for no tuple."""
    return (value, *[None] * (n_outputs - 1)) if n_outputs else value


class NoMasks:
    """While layers are stubbed: no mask is wanted."""


class Listening:
    """Hears what keys and values an attention is called with, and lets it go on."""

    def __init__(self, hear: Callable[[Tensor, Tensor], None]) -> None:
        self.hear = hear


class Writing:
    """Keeps what one layer's attention is called with, and ends the pass at the last of its calls."""

    def __init__(self, n_calls: int) -> None:
        self.n_calls = n_calls
        self.written: list[tuple[Tensor, Tensor]] = []


class Candidates:
    """Rows that are alternative states over a stored context, which each sees, and itself.

    `kv` holds keys and values (G, K, C, d) of each of the layer's attention calls; `hidden_GSC` (its S may be 1) is true where a
    context token must not be seen.
    """

    def __init__(self, kv: list[tuple[Tensor, Tensor]], hidden_GSC: Tensor | None) -> None:
        self.kv, self.hidden_GSC, self.next = kv, hidden_GSC, 0


_now: ContextVar[NoMasks | Listening | Writing | Candidates | None] = ContextVar("attention", default=None)


@contextlib.contextmanager
def during(call: NoMasks | Listening | Writing | Candidates | None) -> Iterator[None]:
    """What the library's layers do when they attend, for a while."""
    token = _now.set(call)
    try:
        yield
    finally:
        _now.reset(token)


def masks(make: Forward) -> Forward:
    """The library's mask function; none while layers are stubbed, which need no mask."""

    def made(*args: Any, **kwargs: Any) -> Tensor | None:
        return None if isinstance(_now.get(), NoMasks) else make(*args, **kwargs)

    return made


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention that the library's layers call, by its interface: query (B, H, T, d), key and value (B, K, T, d)."""
    call = _now.get()
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(call, Candidates):
        return _candidates(call, query, key, value, scaling, softcap, s_aux), None
    if isinstance(call, Writing):
        call.written.append((key, value))
        if len(call.written) == call.n_calls:
            raise Reached(call.written)
    if isinstance(call, Listening):
        call.hear(key, value)
    return _causal(query, key, value, attention_mask, scaling, softcap, s_aux), None


def _causal(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float | None, s_aux: Tensor | None
) -> Tensor:
    """Whole sequences, each token over those before it; `mask` says more."""
    n_repeat = query.shape[1] // key.shape[1]
    if softcap is None and s_aux is None:
        seen_BHTd = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None and query.shape[2] > 1, scale=scaling, enable_gqa=n_repeat > 1
        )
        return seen_BHTd.transpose(1, 2).contiguous()
    key, value = (each.repeat_interleave(n_repeat, dim=1) for each in (key, value))
    scores_BHTT = _capped(query @ key.transpose(2, 3) * scaling, softcap)
    if mask is None:
        later_TT = torch.ones(scores_BHTT.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        scores_BHTT = scores_BHTT.masked_fill(later_TT, -torch.inf)
    elif mask.dtype == torch.bool:
        scores_BHTT = scores_BHTT.masked_fill(~mask, -torch.inf)
    else:
        scores_BHTT = scores_BHTT + mask
    if s_aux is not None:
        sink_BHT1 = s_aux.to(scores_BHTT).view(1, -1, 1, 1).expand(*scores_BHTT.shape[:-1], 1)
        scores_BHTT = torch.cat((scores_BHTT, sink_BHT1), dim=-1)
    p_BHTT = _softmax(scores_BHTT)[..., : key.shape[2]]
    return (p_BHTT @ value).transpose(1, 2).contiguous()


def _candidates(
    call: Candidates, query: Tensor, key: Tensor, value: Tensor, scaling: float, softcap: float | None, s_aux: Tensor | None
) -> Tensor:
    """query (G, H, S, d), key and value (G, K, S, d): what each row sees of its group's context and of itself, (G, S, H, d)."""
    k_GKCd, v_GKCd = call.kv[call.next]
    call.next += 1
    n_groups, n_heads, n_rows, d = query.shape
    n_kv, n_context, n_repeat = key.shape[1], k_GKCd.shape[2], query.shape[1] // key.shape[1]
    q_GSKrd = query.transpose(1, 2).unflatten(2, (n_kv, n_repeat))
    k_GSKd, v_GSKd = key.transpose(1, 2), value.transpose(1, 2)
    own_GKsr = torch.linalg.vecdot(q_GSKrd, k_GSKd[:, :, :, None]).transpose(1, 2)
    # a last column stands for the row itself: its score is written over, its value added separately; one more for a sink
    n_more = 1 if s_aux is None else 2
    keys_GKdC = F.pad(k_GKCd, (0, 0, 0, n_more)).transpose(2, 3).reshape(n_groups * n_kv, d, n_context + n_more)
    values_GKCd = v_GKCd.reshape(n_groups * n_kv, n_context, v_GKCd.shape[3])
    q_GKsrd = q_GSKrd.transpose(1, 2).reshape(n_groups * n_kv, -1, d)
    scores_GKsrC = torch.baddbmm(q_GKsrd.new_empty(1), q_GKsrd, keys_GKdC, beta=0, alpha=scaling)
    scores_GKsrC = scores_GKsrC.view(n_groups, n_kv, n_rows, n_repeat, n_context + n_more)
    scores_GKsrC[..., n_context] = own_GKsr * scaling
    scores_GKsrC = _capped(scores_GKsrC, softcap)
    if call.hidden_GSC is not None:
        scores_GKsrC[..., :n_context].masked_fill_(call.hidden_GSC[:, None, :, None], -torch.inf)
    if s_aux is not None:
        scores_GKsrC[..., n_context + 1] = s_aux.to(scores_GKsrC).view(n_kv, 1, n_repeat)
    p_GKsrC = _softmax(scores_GKsrC)
    seen_GKsrd = p_GKsrC.view(n_groups * n_kv, n_rows * n_repeat, n_context + n_more)[:, :, :n_context] @ values_GKCd
    own_v_GKs1d = v_GSKd.transpose(1, 2)[:, :, :, None]
    own_p_GKsr1 = p_GKsrC[..., n_context : n_context + 1]
    seen_GKsrd = torch.addcmul(seen_GKsrd.view(n_groups, n_kv, n_rows, n_repeat, v_GKCd.shape[3]), own_p_GKsr1, own_v_GKs1d)
    return seen_GKsrd.transpose(1, 2).reshape(n_groups, n_rows, n_heads, -1)


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _softmax(scores: Tensor) -> Tensor:
    if scores.dtype in (torch.float32, torch.float64):
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
