"""Pretrained language models over the modules of transformers: what all such families share.

Norms, projections, position tables and FFNs are transformers' own modules, with the checkpoint's tensors in place (no copy is made
where the dtype is right, so that workers share them). Here is only what transformers has not: a small FFN beside each big one, a
routed forward pass, and attention of many candidate states over one stored context (`models/frozen.py`). A family says where in
its model the parts of a layer are.

Small FFNs are named `small_mlp` in their layer and are the family's own FFN of another width; with `small_rank` in config.json each
matrix of a small FFN is a product of two, of that rank. `small_layers` in config.json lists the layers that have one.

Axes: B batch, T token, R rows, G group, S row of a group, H query heads, K key/value heads, r query heads of one key/value head,
d head dimension, D hidden.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.frozen import BLOCK_ROWS, FrozenModel
from duo_oracle.models.hf.small_ffn import OUR_KEYS, attach_small
from duo_oracle.models.routable import RoutableModule
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


class PretrainedModule(RoutableModule):
    """A causal language model of transformers with small FFNs. A subclass finds the parts and makes queries, keys and values."""

    model: Any  # of transformers, whose modules are found by name
    n_heads: int
    n_kv_heads: int
    head_dim: int
    prefix: str
    """What the names of the trunk's tensors begin with; a checkpoint of the trunk alone leaves it out."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.depth, self.n_hidden = config.num_hidden_layers, config.hidden_size
        self.n_vocabulary, self.n_positions = config.vocab_size, config.max_position_embeddings
        self.n_heads = self.n_kv_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads

    @property
    def small_layers(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.depth) if hasattr(self.layers[layer], "small_mlp"))

    @property
    def unembedding_VD(self) -> Tensor:
        return self.model.get_output_embeddings().weight

    @property
    @abstractmethod
    def layers(self) -> Any:
        """The decoder layers, an nn.ModuleList."""

    @abstractmethod
    def embed_at(self, token_id: Tensor, position: Tensor) -> Tensor:
        """States before layer 0, shape (*token_id.shape, D). `position` is broadcast against `token_id`."""

    @abstractmethod
    def attention(self, layer: int, x_BTD: Tensor) -> Tensor:
        """What the layer's causal attention adds, by transformers' own attention."""

    @abstractmethod
    def projected(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (..., H, d) times the attention's scale, keys and values (..., K, d), before positions turn them."""

    @abstractmethod
    def out_projection(self, layer: int) -> nn.Module:
        """The attention's output projection."""

    @abstractmethod
    def big_ffn(self, layer: int) -> nn.Module: ...

    @abstractmethod
    def new_small_ffn(self, n_inner: int) -> nn.Module:
        """An FFN of the family's kind with `n_inner` neurons, on the current default device."""

    def turned(self, x: Tensor, position: Tensor, back: bool) -> Tensor:
        """x (..., d) turned to its position; as it is where positions are in the embedding."""
        return x

    def embed(self, token_id_BT: Tensor) -> Tensor:
        return self.embed_at(token_id_BT, torch.arange(token_id_BT.shape[1], device=token_id_BT.device))

    def attend(self, layer: int, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.attention(layer, x_BTD)

    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        if branch is Branch.BIG:
            return self.big_ffn(layer)(normed)
        return self.layers[layer].small_mlp(normed)


class PretrainedModel(FrozenModel):
    """A `PretrainedModule` frozen for scoring. Its weights are the module's."""

    def __init__(self, module: PretrainedModule) -> None:
        super().__init__(module, module.n_kv_heads, module.n_heads // module.n_kv_heads, module.head_dim)
        self._plain = module

    @torch.no_grad()
    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self._plain.embed_at(token_id, position)

    @torch.no_grad()
    def final_norm(self, x: Tensor) -> Tensor:
        return self._plain.final_norm(x)

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor) -> Tensor:
        x_RD = x.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), BLOCK_ROWS):
            normed_RD = self._plain.ffn_input(layer, x_RD[rows])
            torch.add(x_RD[rows], self._plain.ffn(layer, branch, normed_RD), out=out_RD[rows])
        return out_RD.view(x.shape)

    def _qkv(self, layer: int, x_GSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_GSHd, k_GSKd, v_GSKd = self._plain.projected(layer, x_GSD)
        return q_GSHd.unflatten(2, (self.n_kv_heads, self.n_repeat)), k_GSKd, v_GSKd

    def _rotated(self, x: Tensor, position: Tensor, back: bool = False) -> Tensor:
        return self._plain.turned(x, position, back)

    def _attention_out(self, layer: int, x_RD: Tensor, seen_RE: Tensor) -> Tensor:
        return x_RD + self._plain.out_projection(layer)(seen_RE)


Build = Callable[[Mapping[str, Any], Mapping[str, Tensor], torch.dtype, torch.device], OracleModel]
BuildModule = Callable[[Mapping[str, Any], Mapping[str, Tensor]], PretrainedModule]
RandomCheckpoint = Callable[[int], tuple[dict[str, Any], dict[str, Tensor]]]


def pretrained_family(
    model_type: str, kind: type[PretrainedModule], tiny: Mapping[str, Any]
) -> tuple[Build, BuildModule, RandomCheckpoint]:
    """What a file in `models/families/` offers for a model type of transformers: build, build_module, random_checkpoint.

    `tiny` is the config of its small random model.
    """

    def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> OracleModel:
        return PretrainedModel(_loaded(kind, config, tensors, dtype).to(device))

    def build_module(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PretrainedModule:
        return _loaded(kind, config, tensors, torch.float32).eval().requires_grad_(False)

    def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config = {"model_type": model_type, **tiny}
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for name, tensor in _empty(kind, config).state_dict().items():
            draw = torch.randn(tensor.shape, generator=generator)
            tensors[name.removeprefix("model.")] = 1 + 0.1 * draw if draw.dim() == 1 else draw * draw.shape[-1] ** -0.5
        if config.get("tie_word_embeddings", True):
            tensors.pop("lm_head.weight")
        return config, tensors

    return build, build_module, random_checkpoint


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("models of transformers need the package transformers: pip install 'duo-oracle[hf]'") from None
    transformers.logging.set_verbosity_error()  # its notes about a config would stand among our own lines
    return transformers


def _empty(kind: type[PretrainedModule], config: Mapping[str, Any]) -> PretrainedModule:
    """The module without weights, on the meta device. Raises InputError for a config that is not the family's."""
    transformers = _transformers()
    theirs = {key: value for key, value in config.items() if key not in OUR_KEYS}
    model_type = theirs.pop("model_type")
    try:
        parsed = transformers.AutoConfig.for_model(model_type, **theirs)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(parsed, attn_implementation="sdpa", dtype=torch.float32)
    except Exception as fault:  # of whatever kind: transformers says so that the config is none
        reason = " ".join(str(fault).split())
        raise InputError(f"config.json: not a {model_type} model that transformers can build: {reason:.200}") from None
    with torch.device("meta"):
        module = kind(model, parsed)
        attach_small(module.layers, module.new_small_ffn, config)
    return module


def _loaded(
    kind: type[PretrainedModule], config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype
) -> PretrainedModule:
    """The module with the checkpoint's tensors, converted where their dtype is another. Raises InputError for one that is missing
    or of another shape."""
    module = _empty(kind, config)
    expected = {name: tuple(tensor.shape) for name, tensor in module.model.state_dict().items()}
    found: dict[str, Tensor] = {}
    for name, shape in expected.items():
        if name == "lm_head.weight" and (
            name not in tensors or config.get("tie_word_embeddings", module.config.tie_word_embeddings)
        ):
            continue
        given = tensors.get(name, tensors.get(name.removeprefix(module.prefix)))
        if given is None:
            raise InputError(f"the checkpoint has no tensor {name}; {config['model_type']} needs it with shape {list(shape)}")
        if tuple(given.shape) != shape:
            raise InputError(f"tensor {name} must have shape {list(shape)} by config.json; found {list(given.shape)}")
        found[name] = given.to(dtype)
    module.model.load_state_dict(found, strict=False, assign=True)
    if "lm_head.weight" not in found:
        module.model.get_output_embeddings().weight = module.model.get_input_embeddings().weight
    _refill_buffers(module)
    left = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    assert not left, f"no values for {left}"
    return module


def _refill_buffers(module: nn.Module) -> None:
    """Makes the parts again that hold no parameters but tables computed from their config, which the meta device left empty."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            buffers = list(child.buffers(recurse=False))
            if buffers and all(buffer.is_meta for buffer in buffers) and not list(child.parameters()):
                setattr(parent, name, type(child)(config=child.config))
