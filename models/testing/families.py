"""The laws that every model family obeys, as a class of tests: a walk over stored keys and values is the plain forward pass, and
scoring leaves no trace.

Axes: B batch, T token, L letter, G group, S row of a group, C context token, K key/value head, d head dimension, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint, fingerprint_of
from duo_oracle.models.family import DTYPES, load_family, load_model
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


def random_inputs(model: OracleModel, n_batch: int = 2, n_tokens: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """token_id_BT, and a routing mask_BTL of all branches."""
    generator = torch.Generator().manual_seed(seed)
    token_id_BT = torch.randint(0, model.n_vocabulary, (n_batch, n_tokens), generator=generator)
    return token_id_BT, torch.randint(0, 3, (n_batch, n_tokens, model.n_letters), generator=generator, dtype=torch.uint8)


def walked_logits(model: OracleModel, token_ids: Tensor, mask_TL: Tensor, skip: SkipReading) -> Tensor:
    """One token at a time through the Protocol's parts, with the keys and values of the tokens before it: logits_TV."""
    empty = torch.empty(1, model.n_kv_heads, 0, model.n_head_dim, dtype=model.dtype)
    cache = [(empty, empty)] * model.n_letters
    logits = []
    for position in range(len(token_ids)):
        x_GSD = model.embed(token_ids[position], torch.tensor([position])).reshape(1, 1, -1)
        position_GS = torch.tensor([[position]])
        for layer in range(model.n_letters):
            k_GKSd, v_GKSd = model.key_value(layer, x_GSD, position_GS)
            k_before, v_before = cache[layer]
            branch = Branch(int(mask_TL[position, layer]))
            if not (branch is Branch.SKIP and skip is SkipReading.LAYER):
                attended_GSD = model.attend(layer, x_GSD, position_GS, k_before, v_before)
                x_GSD = attended_GSD if branch is Branch.SKIP else model.ffn(layer, branch, attended_GSD, x_GSD)
            cache[layer] = (torch.cat((k_before, k_GKSd), dim=2), torch.cat((v_before, v_GKSd), dim=2))
        logit_V = F.linear(model.final_norm(x_GSD)[0, 0], model.unembedding_VD, model.logit_bias_V)
        softcap = model.logit_softcap
        logits.append(logit_V if softcap is None else softcap * torch.tanh(logit_V / softcap))
    return torch.stack(logits)


class FamilyContract:
    """Subclass it in a test module, with `@pytest.mark.parametrize("name", [...])` on the class for the families held to it."""

    atol: ClassVar[Mapping[str, float]] = {}
    """Per family, how far logits and states in float64 may be apart, where its own modules compute in less."""

    def random_checkpoint(self, name: str, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return load_family(name).random_checkpoint(seed)

    def random_model(self, name: str, seed: int, dtype: str = "float64") -> OracleModel:
        config, tensors = self.random_checkpoint(name, seed)
        return load_model(Checkpoint(config, tensors, None, fingerprint_of(config, tensors, None)), dtype)

    def test_a_family_implements_the_protocol(self, name: str) -> None:
        model = self.random_model(name, 0)
        assert isinstance(model, OracleModel)
        assert tuple(model.unembedding_VD.shape) == (model.n_vocabulary, model.n_hidden)

    @pytest.mark.parametrize("skip", list(SkipReading))
    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_walk_over_keys_and_values_is_the_plain_forward_pass(self, name: str, seed: int, skip: SkipReading) -> None:
        model = self.random_model(name, seed)
        token_id_BT, mask_BTL = random_inputs(model, seed=seed)
        logits_BTV = model.forward(token_id_BT, mask_BTL, skip)
        for b in range(2):
            walked_TV = walked_logits(model, token_id_BT[b], mask_BTL[b], skip)
            assert torch.allclose(walked_TV, logits_BTV[b], atol=self.atol.get(name, 1e-8))

    def test_causal_attention_is_attention_over_the_tokens_before(self, name: str) -> None:
        model = self.random_model(name, 2)
        token_id_BT, _ = random_inputs(model, n_batch=1)
        x_BTD = model.embed(token_id_BT, torch.arange(token_id_BT.shape[1]))
        together = model.attend_causal(1, x_BTD)
        k_GKSd, v_GKSd = model.key_value(1, x_BTD, torch.arange(7).unsqueeze(0))
        for t in range(7):
            alone = model.attend(1, x_BTD[:, t : t + 1], torch.tensor([[t]]), k_GKSd[:, :, :t], v_GKSd[:, :, :t])
            assert torch.allclose(alone[:, 0], together[:, t], atol=self.atol.get(name, 1e-10))

    def test_a_hidden_context_token_is_not_seen(self, name: str) -> None:
        model = self.random_model(name, 3)
        token_id_BT, _ = random_inputs(model, n_batch=1)
        x_GSD = model.embed(token_id_BT, torch.arange(token_id_BT.shape[1]))
        k_GKSd, v_GKSd = model.key_value(0, x_GSD, torch.arange(7).unsqueeze(0))
        row, position_GS = x_GSD[:, 6:], torch.tensor([[6]])
        hidden_GSC = torch.tensor([[[False, False, True, False, True, True]]])
        kept = [0, 1, 3]
        masked = model.attend(0, row, position_GS, k_GKSd[:, :, :6], v_GKSd[:, :, :6], hidden_GSC)
        assert torch.allclose(
            masked, model.attend(0, row, position_GS, k_GKSd[:, :, kept], v_GKSd[:, :, kept]), atol=self.atol.get(name, 1e-10)
        )

    def test_scoring_twice_gives_equal_bytes(self, name: str) -> None:
        model = self.random_model(name, 4, "float32")
        token_id_BT, mask_BTL = random_inputs(model)
        first = model.forward(token_id_BT, mask_BTL, SkipReading.FFN)
        model.forward(token_id_BT, 2 - mask_BTL, SkipReading.LAYER)
        assert torch.equal(first, model.forward(token_id_BT, mask_BTL, SkipReading.FFN))
        assert not first.requires_grad

    def test_where_the_weights_lie_in_memory_changes_no_bit(self, name: str) -> None:
        config, tensors = self.random_checkpoint(name, 4)
        found = []
        for shift in (0, 4, 24):
            moved: dict[str, Tensor] = {}
            for key, tensor in tensors.items():
                room = torch.zeros(tensor.numel() + 32, dtype=tensor.dtype)
                first = shift // tensor.element_size()
                room[first : first + tensor.numel()] = tensor.flatten()
                moved[key] = room[first : first + tensor.numel()].view(tensor.shape)
            model = load_model(Checkpoint(config, moved, None, "moved"), "float32")
            assert model.unembedding_VD.data_ptr() % 64 == 0
            x_1D = model.final_norm(model.embed(torch.tensor([3]), torch.tensor([0])))
            found.append(x_1D @ model.unembedding_VD.T)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_model_has_the_dtype_asked_for(self, name: str, dtype: str) -> None:
        model = self.random_model(name, 5, dtype)
        token_id_BT, mask_BTL = random_inputs(model)
        assert model.dtype == DTYPES[dtype] == model.forward(token_id_BT, mask_BTL, SkipReading.FFN).dtype

    def test_a_missing_tensor_is_named(self, name: str) -> None:
        config, tensors = self.random_checkpoint(name, 0)
        missing = next((each for each in sorted(tensors) if ".0." in each), min(tensors))
        del tensors[missing]
        with pytest.raises(ValueError, match=f"no tensor {missing}"):
            load_model(Checkpoint(config, tensors, None, ""))
