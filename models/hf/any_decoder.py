"""The family of every `model_type` that has no file of its own: what transformers loads as a causal language model.

Offers what a file in `models/families/` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.hf import experts
from duo_oracle.models.hf.blocks import Plan
from duo_oracle.models.hf.check import Checked, checked
from duo_oracle.models.hf.experts import ExpertsModel
from duo_oracle.models.hf.library import empty_shapes, one_line, twin
from duo_oracle.models.hf.pretrained import PretrainedModel, PretrainedModule, pretrained_module
from duo_oracle.models.hf.whole import WholeModel
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import BranchTable

MODEL_TYPE = "*"


def frozen(module: PretrainedModule) -> PretrainedModel:
    """The module frozen for scoring, by the way that its layers allow."""
    return WholeModel(module) if module.plan is Plan.WHOLE else PretrainedModel(module)


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> PretrainedModel:
    """The frozen model of a checkpoint. Raises InputError for a config or tensors that are none, or not understood."""
    return frozen(pretrained_module(config, tensors, dtype, device))


def build_module(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PretrainedModule:
    """The float32 module of a checkpoint. Raises InputError as `build`, and for layers whose FFN cannot be left out alone."""
    module = pretrained_module(config, tensors, torch.float32, torch.device("cpu"))
    if module.plan not in (Plan.SERIAL, Plan.PARALLEL):
        raise InputError(
            f"models of type {config.get('model_type')!r} can be searched, but no router runs on them and they have no small FFNs: "
            "their layers' FFNs cannot be told apart from the rest"
        )
    return module


def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a small random Llama."""
    config = {"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "tie_word_embeddings": False}
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in empty_shapes(config).items()}
    return config, {name: 1 + 0.1 * each if each.dim() == 1 else each * each.shape[-1] ** -0.5 for name, each in drawn.items()}


def over_experts(model: PretrainedModel, table: BranchTable, layers: tuple[int, ...] | None) -> ExpertsModel:
    """The model, a mixture of experts, routed over a table of them. Raises InputError as `models/hf/experts.py`."""
    return experts.over_experts(model, table, layers)


def check(model: PretrainedModel | PretrainedModule, fingerprint: str) -> Checked:
    """Holds the model to the library's own. Raises InputError where it differs."""
    module = model.module if isinstance(model, PretrainedModel) else model
    with one_line(f"a {module.model.config.model_type} model of transformers cannot be run layer by layer"):
        return checked(
            model if isinstance(model, PretrainedModel) else frozen(model), twin(module.model, module.own_attention), fingerprint
        )
