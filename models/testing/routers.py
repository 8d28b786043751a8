"""The laws that every router obeys, as a class of tests, on a small random Duo-LLM of three layers.

Axes: T token, L layer, B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.duo_llm.packed import PackedDuoLlama
from duo_oracle.models.router import Router, TokenBatch, read_router
from duo_oracle.models.router_training.calibration import routed_losses
from duo_oracle.models.routing import route
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import losses_of
from duo_oracle.oracle.patterns import Branch

N_LAYERS, N_HIDDEN, N_VOCABULARY, N_POSITIONS = 3, 16, 280, 16
FINGERPRINT = "of the small model"


def small_module(seed: int = 0) -> DuoLlama:
    """A random Duo-LLM, wide enough apart that routing matters."""
    module = DuoLlama(
        DuoLlamaConfig(
            vocab_size=N_VOCABULARY,
            hidden_size=N_HIDDEN,
            intermediate_size=32,
            small_intermediate_size=8,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=N_POSITIONS,
            head_dim=4,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
    return module.eval().requires_grad_(False)


def window_of(n_tokens: int, seed: int = 0) -> Window:
    generator = np.random.default_rng(seed)
    return Window(0, "text", generator.integers(0, N_VOCABULARY, n_tokens).astype(np.int32))


def choices_one_at_a_time(router: Router, module: DuoLlama, token_id_T: Tensor, skip: SkipReading, sequence: int) -> np.ndarray:
    """mask_TL where each token sees the keys and values that the tokens before it have written, and the router sees one token."""
    model = PackedDuoLlama(module)
    empty = torch.zeros(1, model.n_kv_heads, 0, model.n_head_dim)
    cache = [(empty, empty) for _ in range(model.n_letters)]
    rows = []
    for position, token_id in enumerate(token_id_T.tolist()):
        tokens = TokenBatch(torch.tensor([[token_id]]), (sequence,), start=position)
        choose = router.routing(tokens, model.n_letters)
        x_BTD = model.embed(torch.tensor([[token_id]]), torch.tensor([[position]]))
        row = []
        for layer in range(model.n_letters):
            keys, values = cache[layer]
            place = torch.tensor([[position]])
            own = model.key_value(layer, x_BTD, place)
            attended = model.attend(layer, x_BTD, place, keys, values)
            branch = Branch(int(choose(layer, module.ffn_input(layer, attended, x_BTD))))
            cache[layer] = torch.cat((keys, own[0]), dim=2), torch.cat((values, own[1]), dim=2)
            skipped = x_BTD if skip is SkipReading.LAYER else attended
            x_BTD = skipped if branch is Branch.SKIP else model.ffn(layer, branch, attended)
            row.append(branch)
        rows.append(row)
    return np.array(rows, dtype=np.uint8)


class RouterContract:
    """Subclass it in a test module, with `@pytest.mark.parametrize("name", [...])` on the class for the routers held to it."""

    forms: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Per router, what stands where a ROUTER is named: `fixed:Bs.`, or a directory. It fits a model of 3 layers, hidden size 16."""

    def routers(self, name: str, module: DuoLlama, folder: Path) -> list[Router]:
        """The routers that are held to the laws; override it for routers that must be made or trained first, in `folder`."""
        return [read_router(form) for form in self.forms[name]]

    @pytest.fixture
    def module(self) -> DuoLlama:
        return small_module()

    def test_a_causal_router_chooses_the_same_for_a_prefix_and_one_token_at_a_time(
        self, name: str, module: DuoLlama, tmp_path: Path
    ) -> None:
        window = window_of(14)
        token_id_T = torch.from_numpy(window.token_ids.astype(np.int64))
        for router in self.routers(name, module, tmp_path):
            (whole_TL,) = route(router, module, [window], SkipReading.FFN, FINGERPRINT)
            assert whole_TL.shape == (14, N_LAYERS)
            assert whole_TL.dtype == np.uint8
            assert set(np.unique(whole_TL)) <= set(router.branches), router.spec
            prefixes = [Window(0, "", window.token_ids[:n]) for n in range(2, 14)]
            routed = [next(route(router, module, [prefix], SkipReading.FFN, FINGERPRINT)) for prefix in prefixes]
            same = all(np.array_equal(prefix_TL, whole_TL[: len(prefix_TL)]) for prefix_TL in routed)
            assert same == router.causal, router.spec
            if router.causal:
                alone_TL = choices_one_at_a_time(router, module, token_id_T, SkipReading.FFN, 0)
                assert np.array_equal(alone_TL, whole_TL), router.spec

    def test_equal_batches_get_equal_choices(self, name: str, module: DuoLlama, tmp_path: Path) -> None:
        windows = [window_of(16, seed) for seed in (3, 4, 3)]
        for router in self.routers(name, module, tmp_path):
            first, _, again = (next(route(router, module, [window], SkipReading.FFN, FINGERPRINT)) for window in windows)
            assert np.array_equal(first, again), router.spec

    def test_the_loss_of_routing_is_that_of_a_plain_pass_with_its_choices_and_the_model_is_not_changed(
        self, name: str, module: DuoLlama, tmp_path: Path
    ) -> None:
        token_id_BT = torch.from_numpy(window_of(16, seed=2).token_ids.astype(np.int64))[None]
        before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        for router in self.routers(name, module, tmp_path):
            loss_BT, mask_BTL = routed_losses(router, module, token_id_BT, (0,), SkipReading.FFN)
            logits_BTV = module(token_id_BT[:, :-1], torch.from_numpy(mask_BTL).long(), SkipReading.FFN)
            plain_BT = losses_of(logits_BTV, token_id_BT[:, 1:])
            assert torch.allclose(loss_BT.double(), plain_BT, rtol=0, atol=1e-5), router.spec
        assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())
