"""transformers, and a checkpoint read by it: a config and its tensors to the library's own model, right or refused in one line.

The only file that imports transformers. Fused, renamed, tied and quantised weights are the library's business; here is what it
would let pass in silence: tensors that are missing, that nothing takes or that hold integers, and code of the checkpoint's own.
Parameters stay where the tensors lie wherever the library makes no copy, so that workers share them.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.checkpoint import BASE, BASE_FINGERPRINT
from duo_oracle.oracle.base.errors import InputError

OUR_KEYS = ("small_intermediate_size", "small_rank", "small_layers", BASE, BASE_FINGERPRINT, "method")
"""Keys of config.json that are not transformers'."""
SMALL = ".small_mlp."
"""What the names of small FFNs' tensors have in the middle; transformers knows none of them."""

_ATTENTION = "duo_oracle"  # the name that our attention is registered by
_MASK_TABLES = re.compile(r"(attn|attention)\.(masked_)?bias$")  # GPT-2's and GPT-NeoX's causal masks, which no one reads now
_IDLE = re.compile(r"(rotary_emb\.inv_freq|rotary_emb\.(cos|sin)_cached|position_ids)$")


def transformers() -> Any:
    """The package. Raises InputError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise InputError("models of transformers need the package transformers: pip install 'duo-oracle[hf]'") from None
    transformers.logging.set_verbosity_error()  # its notes about a config would stand among our own lines
    transformers.utils.logging.disable_progress_bar()
    return transformers


def library_version() -> str:
    return str(transformers().__version__)


def parsed_config(config: Mapping[str, Any]) -> Any:
    """The library's config of what config.json holds. Raises InputError for a type that is no language model, and for a config
    that is not of its type."""
    lib = transformers()
    model_type = config.get("model_type")
    if "auto_map" in config:
        raise InputError(
            "config.json: auto_map names code of the checkpoint's own, which is not run; where transformers' own "
            f"{model_type} is meant, remove auto_map"
        )
    known = {each.model_type: each for each in lib.MODEL_FOR_CAUSAL_LM_MAPPING if each.model_type}
    if not isinstance(model_type, str) or model_type not in known:
        close = get_close_matches(str(model_type), list(known), 3)
        raise InputError(
            f"config.json: unknown model_type {model_type!r}; transformers {lib.__version__} knows {len(known)} types of causal "
            f"language models{', such as ' + ', '.join(close) if close else ''}"
        )
    theirs = {key: value for key, value in config.items() if key not in OUR_KEYS}
    with one_line(f"config.json: not a {model_type} model that transformers can build"):
        return lib.CONFIG_MAPPING[model_type].from_dict(theirs)


_MOST_PACKED, _SPARE = 16, 1 << 22
"""Numbers of a model for each that its checkpoint holds, where they are packed (two bits in an int32), and those beside that."""


def library_model(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """The library's model of a checkpoint on the CPU, in eval mode and without gradients. Small FFNs' tensors are left out.

    Raises InputError for a config that is none, for tensors that are missing, of another shape, integers or taken by nothing, and
    for what the library refuses, in its own words.
    """
    lib, parsed = transformers(), parsed_config(config)
    theirs = {name: tensor for name, tensor in tensors.items() if SMALL not in name and not _idle(name, tensor)}
    quantised = _quantised(parsed)
    if quantised is None:
        for name, tensor in theirs.items():
            if not tensor.is_floating_point() or tensor.element_size() < 2:
                raise InputError(
                    f"tensor {name} holds {tensor.dtype}; config.json has no quantization_config that says what it means"
                )
    kind = lib.MODEL_FOR_CAUSAL_LM_MAPPING[type(parsed)]
    refused = f"config.json: not a {parsed.model_type} model that transformers can build"
    if quantised is not None:
        refused = f"config.json: weights quantised by {quantised}, which transformers cannot undo here; dequantise them first"
    with one_line(refused):
        n_asked = sum(map(math.prod, empty_shapes(config).values()))
    n_held = sum(tensor.numel() for tensor in theirs.values())
    if n_asked > _MOST_PACKED * n_held + _SPARE:
        raise InputError(
            f"config.json: describes a {parsed.model_type} model of {n_asked:,} numbers, and the weights beside it hold {n_held:,}"
        )
    with one_line(refused):
        model, found = kind.from_pretrained(
            None,
            config=parsed,
            state_dict=theirs,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            experts_implementation="eager",
        )
    _check_found(model, found, parsed.model_type)
    for name, tensor in model.named_parameters():
        if tensor.dtype != dtype:
            raise InputError(f"tensor {name} stays {tensor.dtype} when transformers loads it; dequantise the checkpoint first")
    return model.eval().requires_grad_(False)


def empty_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a model's tensors."""
    parsed = parsed_config(config)
    with torch.device("meta"):
        model = transformers().AutoModelForCausalLM.from_config(parsed)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _quantised(parsed: Any) -> str | None:
    """How the weights are quantised. What the library can undo on loading it is asked to undo."""
    how = getattr(parsed, "quantization_config", None)
    if how is None:
        return None
    how = dict(how if isinstance(how, Mapping) else how.to_dict())
    method = str(how.get("quant_method"))
    if method in ("fp8", "mxfp4"):
        parsed.quantization_config = {**how, "dequantize": True}
    return method


def _idle(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is one of those that checkpoints carry and no model reads: tables that are made from the config."""
    return bool(_IDLE.search(name)) or (bool(_MASK_TABLES.search(name)) and (tensor.dim() == 4 or tensor.numel() == 1))


def _check_found(model: Any, found: Mapping[str, Any], model_type: str) -> None:
    """Raises InputError for tensors that are missing, of another shape, or left over."""
    for name in sorted(found["missing_keys"]):
        shape = list(model.state_dict()[name].shape)
        raise InputError(f"the checkpoint has no tensor {name}; {model_type} needs it with shape {shape}")
    for name, given, wanted in sorted(found["mismatched_keys"]):
        raise InputError(f"tensor {name} must have shape {list(wanted)} by config.json; found {list(given)}")
    for name in sorted(found["unexpected_keys"]):
        raise InputError(f"the checkpoint holds tensor {name}, which no part of {model_type} takes by config.json")


class one_line:
    """Turns what the library raises into one line, whatever its kind: it says so that a config or weights are none."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: object) -> None:
        if isinstance(fault, Exception) and not isinstance(fault, InputError):
            raise InputError(f"{self._what}: {' '.join(str(fault).split()) or type(fault).__name__:.200}") from None


def twin(model: Any, attention: str) -> Any:
    """A second model of the library over the same tensors, by the library's own attention: what ours is held to."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    other = copy.deepcopy(model, shared)
    own_attention(other, attention)
    return other


def use_attention(model: Any, attention: Callable[..., Any], mask: Callable[[Callable[..., Any]], Callable[..., Any]]) -> str:
    """Lets the model's layers call `attention`, and make their masks by `mask` of the library's own function. A model whose code
    cannot take another attention keeps its own, which shows when its layers are looked at. Returns the name of what it had."""
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(_ATTENTION, attention)
    AttentionMaskInterface.register(_ATTENTION, mask(eager_mask))  # without one transformers makes no mask, and windows vanish
    own = str(getattr(model.config, "_attn_implementation", None))
    with contextlib.suppress(ValueError, AttributeError):
        model.set_attn_implementation(_ATTENTION)
    return own


def own_attention(model: Any, attention: str) -> None:
    """Lets the model's layers call the library's own attention again, of the name that `use_attention` returned."""
    if getattr(model.config, "_attn_implementation", None) == _ATTENTION:
        model.set_attn_implementation(attention)
