"""Several processes train as one does with the same batches, and one goes on where they were stopped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from duo_oracle.models.moe_training.config import MoeTrainConfig
from duo_oracle.models.moe_training.training import train_moe
from duo_oracle.models.router_training.stage3 import train_router, trainable_routers
from duo_oracle.models.training.config import Autocast, TrainConfig, TrainOrder
from duo_oracle.models.training.processes import Processes
from duo_oracle.models.training.stage1 import train
from duo_oracle.oracle.base.errors import InputError
from tests.models.router_fixtures import router_config, write_model, write_text
from tests.models.training.several import STOP, in_processes, train_stopped
from tests.models.training.test_stage1 import config

__all__ = ["config"]


def losses_of(out: Path | str) -> np.ndarray:
    lines = (Path(out) / "loss.csv").read_text().splitlines()[1:]
    return np.array([[float(value) for value in line.split(",")[:3]] for line in lines])


def weights_of(out: Path | str) -> dict[str, torch.Tensor]:
    (state,) = (Path(out) / "progress").glob("*.safetensors")
    return load_file(state)


def assert_same_to_rounding(left: Path | str, right: Path | str) -> None:
    np.testing.assert_allclose(losses_of(left), losses_of(right), atol=2e-4)
    for name, tensor in weights_of(left).items():
        if name.startswith("weight/"):
            torch.testing.assert_close(tensor, weights_of(right)[name], atol=2e-3, rtol=0, equal_nan=True)


ROUTERS = [name for name in trainable_routers() if name != "distilled"]


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_train_as_one_does_and_one_goes_on(config: TrainConfig, tmp_path: Path) -> None:
    write_model(tmp_path / "model", write_text(tmp_path / "text.jsonl", 60))
    config = replace(config, tokens=20 * 4 * 16)
    of_models = [replace(config, order=order, out=str(tmp_path / f"{order}-together")) for order in TrainOrder]
    of_routers = [router_config(tmp_path, name, out=str(tmp_path / f"{name}-together")) for name in ROUTERS]
    stopped = [replace(each, out=f"{each.out}-stopped") for each in of_models]
    jobs: list[tuple[Any, Any]] = [(train, each) for each in of_models] + [(train_stopped, each) for each in stopped]
    in_processes(2, jobs + [(train_router, each) for each in of_routers], tmp_path)
    for together in of_models:
        alone = replace(together, out=f"{together.out}-alone")
        train(alone)
        assert_same_to_rounding(alone.out, together.out)
        assert (Path(together.out) / "evaluation.json").exists()
        gone_on = replace(together, out=f"{together.out}-stopped")
        assert losses_of(gone_on.out)[-1][0] == STOP - 1
        train(gone_on)
        assert_same_to_rounding(alone.out, gone_on.out)
    for of_router in of_routers:
        train_router(replace(of_router, out=f"{of_router.out}-alone"))
        assert_same_to_rounding(f"{of_router.out}-alone", of_router.out)
        assert (Path(of_router.out) / "router.json").exists()


def test_a_batch_in_pieces_is_the_batch(config: TrainConfig, tmp_path: Path) -> None:
    whole, pieces = (replace(config, out=str(tmp_path / str(n)), accumulate=n) for n in (1, 4))
    train(whole)
    train(pieces)
    assert_same_to_rounding(whole.out, pieces.out)
    train(replace(pieces, accumulate=2))  # how, not what, is trained: it is refused nowhere


def test_bfloat16_products_learn_too(config: TrainConfig, tmp_path: Path) -> None:
    exact, rough = config, replace(config, out=str(tmp_path / "rough"), autocast=Autocast.BFLOAT16)
    train(exact)
    train(rough)
    left, right = losses_of(exact.out), losses_of(rough.out)
    assert not np.array_equal(left, right)
    np.testing.assert_allclose(left[:, 2], right[:, 2], atol=0.1)


def test_training_from_before_an_option_was_there_goes_on(config: TrainConfig) -> None:
    train(config)
    path = Path(config.out) / "progress" / "progress.json"
    path.write_text(re.sub(r'(, )?"autocast": "auto"', "", path.read_text()))
    assert '"autocast"' not in path.read_text()
    train(config)
    with pytest.raises(InputError, match="autocast 'auto', so it cannot go on with 'bfloat16'"):
        train(replace(config, autocast=Autocast.BFLOAT16))


def test_what_one_process_trains_is_refused_by_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"a mixture of experts, .* is trained by one process; torchrun started 2"):
        train_moe(MoeTrainConfig(text=("t",), out=str(tmp_path)))
    with pytest.raises(InputError, match=r"router distilled, .* is trained by one process"):
        train_router(router_config(tmp_path, "distilled"), [])


def test_a_batch_that_is_not_shared_evenly_is_refused(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="got 4 windows for 1 processes and 3 pieces each"):
        train(replace(config, accumulate=3))
    with pytest.raises(InputError, match="got 4 windows for 3 processes"):
        Processes(1, 3).check(4)
    assert [Processes(rank, 2).rows(6) for rank in (0, 1)] == [slice(0, 3), slice(3, 6)]
