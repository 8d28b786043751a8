"""The contract of a router, over the folder's listing: its branches, causality, the cache, the frozen model, files, and errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.models.linear_router import LinearMaps, LinearRouter, write_linear
from duo_oracle.models.router import TokenBatch, read_router, router_fingerprint, router_module, router_names
from duo_oracle.models.routers.random_router import Random
from duo_oracle.models.routing import batches_of, big_per_token, route, route_with_logits
from duo_oracle.models.testing import RouterContract
from duo_oracle.models.testing.routers import FINGERPRINT, choices_one_at_a_time
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from tests.models.router_fixtures import N_HIDDEN, N_LAYERS, N_VOCABULARY, write_model, write_text

FFN = SkipReading.FFN
BRANCHES = {"sB": (Branch.SMALL, Branch.BIG), ".B": (Branch.SKIP, Branch.BIG), ".sB": tuple(Branch)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The module and fingerprint of a model on disk."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder / "model", write_text(folder / "text.jsonl"))
    checkpoint = read_checkpoint(str(folder / "model"))
    return build_module(checkpoint.config, checkpoint.tensors), checkpoint.fingerprint


def linear(name: str, branches: str, fingerprint: str, skip: SkipReading = FFN, seed: int = 0) -> LinearRouter:
    generator = torch.Generator().manual_seed(seed)
    n_branches = len(branches)
    maps = LinearMaps(
        torch.randn(N_LAYERS, n_branches, N_HIDDEN, generator=generator),
        torch.randn(N_LAYERS, n_branches, generator=generator),
        torch.randn(N_LAYERS, generator=generator) * 0.1,
    )
    return LinearRouter(name, maps, BRANCHES[branches], fingerprint, skip, budget=1.0, spec=name)


def saved(router: LinearRouter, directory) -> str:
    steps = router.maps.shifted(1.0).to_tensors("step-6/")
    write_linear(directory, router, {}, {**steps, "uncalibrated/cutoff": router.maps.cutoff_L - 1})
    return str(directory)


def sequences_of(lengths, seed=0) -> list[Window]:
    generator = np.random.default_rng(seed)
    return [Window(i, f"d{i}", generator.integers(0, N_VOCABULARY, n).astype(np.int32)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("name", router_names())
class TestRouters(RouterContract):
    """Every form of every router that the folder offers."""

    def routers(self, name, module, folder):
        if name == "fixed":
            return [read_router("fixed:Bs."), read_router("fixed:sss")]
        if name == "random":
            return [read_router("random:1"), read_router("random:1.4+0.8@3")]
        two, skips, three = (saved(linear(name, form, FINGERPRINT), folder / form) for form in ("sB", ".B", ".sB"))
        batch = [f"{two}@batch"] if name == "expert_choice" else []
        return [read_router(form) for form in (two, skips, three, f"{two}@6", f"{two}@uncalibrated", *batch)]


def test_one_token_at_a_time_agrees_where_a_skip_leaves_out_the_layer(model, tmp_path):
    module, fingerprint = model
    (sequence,) = sequences_of([14], seed=1)
    router = linear("budget", ".sB", fingerprint, SkipReading.LAYER)
    (mask_TL,) = route(router, module, [sequence], SkipReading.LAYER, fingerprint)
    assert set(np.unique(mask_TL)) == set(Branch)
    token_id_T = torch.from_numpy(sequence.token_ids.astype(np.int64))
    assert np.array_equal(choices_one_at_a_time(router, module, token_id_T, SkipReading.LAYER, 0), mask_TL)


def test_routes_come_in_order_whatever_the_lengths_and_logits_explain_them(model, tmp_path):
    module, fingerprint = model
    sequences = sequences_of([16, 16, 5, 16, 2])
    assert [len(batch) for batch in batches_of(sequences * 10)] == [2, 1, 1, 1] * 10
    assert [len(batch) for batch in batches_of(sequences_of([9] * 40))] == [16, 16, 8]
    router = read_router(saved(linear("budget", ".sB", fingerprint), tmp_path / "r"))
    together = list(route_with_logits(router, module, sequences, FFN, fingerprint))
    assert [routes.sequence.index for routes in together] == [0, 1, 2, 3, 4]
    for routes, sequence in zip(together, sequences, strict=True):
        (alone_TL,) = route(router, module, [sequence], FFN, fingerprint)
        assert np.array_equal(routes.mask_TL, alone_TL)
        assert np.array_equal(routes.logits_TLK.argmax(-1), routes.mask_TL)
    (none,) = route_with_logits(read_router("random:1"), module, sequences[:1], FFN, fingerprint)
    assert none.logits_TLK is None


def test_random_meets_its_budget_in_every_token_and_draws_every_layer_alike():
    mask_TL = Random(2).draw(sequence=5, n_tokens=4000, n_letters=6)
    assert ((mask_TL == Branch.BIG).sum(axis=1) == 2).all()
    assert np.abs((mask_TL == Branch.BIG).mean(axis=0) - 1 / 3).max() < 0.03
    mask_TL = Random(2.25, 1.5).draw(sequence=5, n_tokens=4000, n_letters=6)
    n_big_T, n_skip_T = (mask_TL == Branch.BIG).sum(axis=1), (mask_TL == Branch.SKIP).sum(axis=1)
    assert set(n_big_T) == {2, 3}
    assert abs(n_big_T.mean() - 2.25) < 0.03
    assert abs(n_skip_T.mean() - 1.5) < 0.03
    everything = Random(2.5, 3.5).draw(sequence=5, n_tokens=100, n_letters=6)
    assert ((everything == Branch.BIG) | (everything == Branch.SKIP)).all()
    assert not np.array_equal(Random(2).draw(0, 50, 6), Random(2).draw(1, 50, 6))
    assert not np.array_equal(Random(2).draw(0, 50, 6), Random(2, seed=1).draw(0, 50, 6))
    assert np.array_equal(Random(2).draw(0, 50, 6)[:20], Random(2).draw(0, 20, 6))
    assert big_per_token(Random(2).draw(0, 50, 6)) == 2.0


def test_equal_logits_take_the_cheaper_branch_and_the_cutoff_is_strict(model):
    _, fingerprint = model
    maps = LinearMaps(torch.zeros(N_LAYERS, 3, N_HIDDEN), torch.zeros(N_LAYERS, 3), torch.tensor([0.0, -0.5, 0.5]))
    router = LinearRouter("budget", maps, BRANCHES[".sB"], fingerprint)
    choose = router.routing(TokenBatch(torch.zeros(1, 2, dtype=torch.int64), (0,)), N_LAYERS)
    x_BTD = torch.randn(1, 2, N_HIDDEN)
    assert [choose(layer, x_BTD).tolist() for layer in range(3)] == [[[0, 0]], [[2, 2]], [[0, 0]]]


def test_a_router_comes_back_from_its_directory(model, tmp_path):
    _, fingerprint = model
    written = linear("token_choice", ".sB", fingerprint, SkipReading.LAYER)
    path = saved(written, tmp_path / "r")
    read = read_router(path)
    assert (read.name, read.branches, read.budget, read.skip) == ("token_choice", tuple(Branch), 1.0, SkipReading.LAYER)
    assert torch.equal(read.maps.weight_LKD, written.maps.weight_LKD)
    assert torch.equal(read_router(f"{path}@6").maps.cutoff_L, written.maps.cutoff_L + 1)
    assert torch.equal(read_router(f"{path}@uncalibrated").maps.cutoff_L, written.maps.cutoff_L - 1)
    assert len({router_fingerprint(form) for form in (path, f"{path}@6", "random:1", "random:2")}) == 4


def test_a_router_of_another_model_or_reading_is_refused(model, tmp_path):
    module, fingerprint = model
    sequences = sequences_of([5])

    def refused(router, skip=FFN, of=fingerprint):
        with pytest.raises(ValueError) as fault:
            list(route(router, module, sequences, skip, of))
        assert "\n" not in str(fault.value)
        return str(fault.value)

    router = linear("budget", ".sB", fingerprint)
    assert "was trained on the model of fingerprint" in refused(router, of="another")
    assert "was trained with `skip=ffn`; got `skip=layer`" in refused(router, SkipReading.LAYER)
    narrow = replace(router.maps, weight_LKD=router.maps.weight_LKD[:, :, :8])
    assert "is for a model of 8 hidden values; this model has 16" in refused(LinearRouter("b", narrow, tuple(Branch), fingerprint))
    assert "is for a model of 4 layers; this model has 3" in refused(read_router("fixed:BsBs"))
    assert "BUDGET + SKIPS must not exceed the model's 3 layers" in refused(read_router("random:2+2"))
    assert len(list(route(read_router("fixed:Bs."), module, sequences, SkipReading.LAYER, "whatever"))) == 1


def test_what_is_no_router_is_refused_in_one_line(model, tmp_path):
    _, fingerprint = model
    path = tmp_path / "r"
    saved(linear("budget", "sB", fingerprint), path)

    def refused(router) -> str:
        with pytest.raises(ValueError) as fault:
            read_router(router)
        assert "\n" not in str(fault.value)
        return str(fault.value)

    assert "there is no 'nowhere'" in refused("nowhere")
    assert "there is no 'duo-tiny/nothing'" in refused("duo-tiny/nothing")
    assert "router budget is trained, so it is a directory or a shipped name" in refused("budget:4")
    assert "is written with the letters" in refused("fixed:BxB")
    assert "a random router is random:BUDGET" in refused("random:many")
    assert "unknown variant 'step-7'" in refused(f"{path}@7")
    assert "unknown variant 'last'" in refused(f"{path}@last")
    record = json.loads((path / "router.json").read_text())
    for change, message in (
        ({"format": 9}, "routers of format 1 can be read; got 9"),
        ({"name": "bugdet"}, "unknown router 'bugdet'; did you mean 'budget'?"),
        ({"name": "fixed"}, "router fixed is written like fixed:PATTERN"),
        ({"name": None}, "must be a JSON object with the name of a router"),
        ({"branches": "sb"}, "branches are any of the letters"),
        ({"branches": ".s"}, "branches must be B and at least one other"),
        ({"branches": ".sB"}, "weight must have shape [3, 3, 16]"),
        ({"n_layers": "3"}, "n_layers is missing or of the wrong type"),
        ({"skip": "token"}, "unknown skip reading 'token'"),
        ({"budget": True}, "budget is missing or of the wrong type"),
        ({"budget": 10**400}, "too large to convert to float"),
        ({"budget": float("nan")}, "budget must be a number from 0 to 3"),
        ({"budget": float("inf")}, "budget must be a number from 0 to 3"),
    ):
        (path / "router.json").write_text(json.dumps({**record, **change}))
        assert message in refused(path)
    (path / "router.json").write_text("{")
    assert "must be JSON" in refused(path)
    (path / "router.json").write_text(json.dumps(record))
    whole = (path / "router.safetensors").read_bytes()
    (path / "router.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "not a whole safetensors file" in refused(path)
    (path / "router.safetensors").unlink()
    assert "a router directory must hold router.safetensors" in refused(path)
    (path / "router.json").unlink()
    assert "a router directory must hold router.json" in refused(path)


def test_every_file_in_the_folder_is_a_router_of_its_name():
    for name in router_names():
        module = router_module(name)
        assert hasattr(module, "parse") != hasattr(module, "read"), name
        if hasattr(module, "read"):
            assert hasattr(module, "METHOD") != hasattr(module, "fit"), name
