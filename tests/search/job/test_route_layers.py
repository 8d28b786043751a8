"""`--route-layers` from the command line to verified tables, in every context and both readings of skip; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.models.pretrained_models import random_checkpoint

Asks = Callable[..., SearchConfig]


@pytest.mark.parametrize(
    ("branches", "skip", "strategy"), [("sB", "ffn", "exhaustive"), (".sB", "layer", "exhaustive"), (".B", "ffn", "beam")]
)
@pytest.mark.parametrize("context", ["committed", "same", "full", "cheapest", "Bs", "router:random:1"])
def test_a_run_is_reproduced_by_plain_passes(
    asks_duo: Asks, capsys: pytest.CaptureFixture[str], context: str, branches: str, skip: str, strategy: str
) -> None:
    config = asks_duo(route_layers="0,2", context=context, branches=branches, skip=skip, strategy=strategy, budget="any,1")
    run_search(config)
    run = results.load(config.out)
    assert (run.layers, run.n_letters) == ((0, 2), 2)
    assert set(run.paths()["pattern"].str.len()) == {2}
    assert main(["verify", config.out, "--all"]) == 0
    assert "NOT" not in capsys.readouterr().out


def test_all_layers_named_are_all_layers(asks_duo: Asks, tmp_path: Path) -> None:
    tables = []
    for route_layers in (None, "0-2"):
        config = asks_duo(route_layers=route_layers, out=str(tmp_path / f"run-{route_layers}"))
        run_search(config)
        tables.append(results.load(config.out).paths())
    assert tables[0].equals(tables[1])


def test_other_layers_are_another_run(asks_duo: Asks) -> None:
    run_search(asks_duo(route_layers="0,2"))
    with pytest.raises(ValueError, match=r"holds a run with route_layers \[0, 2\], not \[0, 1\]"):
        run_search(asks_duo(route_layers="0,1"))


def bare_llama(directory: Path) -> str:
    """A Llama as transformers writes it: no small FFN anywhere."""
    config, tensors = random_checkpoint("llama", 0)
    del config["small_intermediate_size"]
    write_checkpoint(directory, config, {n: t for n, t in tensors.items() if "small" not in n}, None, torch.float32)
    return str(directory)


def test_a_model_without_small_ffns_is_compared_with_all_skip(
    asks_duo: Asks, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = asks_duo(model=bare_llama(tmp_path / "bare"), branches=".B", skip="layer", context="full", budget="0-3")
    run_search(config)
    run = results.load(config.out)
    assert (run.identity["cheapest"], run.cheapest_name) == (".", "all-skip")
    paths = run.paths()
    assert (paths["loss_cheapest"][paths["budget"] == "0"] - paths["loss"][paths["budget"] == "0"]).abs().max() < 1e-6
    assert main(["verify", config.out, "--all"]) == 0
    assert "all-skip" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"route_layers": "2-4"}, "0 to 2 and rising, such as 18-27 or 3,5,8-11; got '2-4'"),
        ({"route_layers": "two"}, "got 'two'"),
        ({"route_layers": "0,2", "context": "BBB"}, "has 2 letters; 'BBB' has 3"),
        ({"route_layers": "0,2", "budget": "3"}, "at most the model's 2 layers"),
    ],
)
def test_routed_layers_that_do_not_fit_are_one_line(asks_duo: Asks, options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=r"got|has") as refusal:
        run_search(asks_duo(**options))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_small_is_refused_where_there_is_none(asks_duo: Asks, tmp_path: Path) -> None:
    model = bare_llama(tmp_path / "bare")
    for options in ({}, {"branches": ".B", "context": "small"}):
        with pytest.raises(ValueError, match="needs a small FFN at every routed layer, and of this model no layer has one"):
            run_search(asks_duo(model=model, **options))


def test_too_many_patterns_are_refused_with_what_to_do(tmp_path: Path, duo_tokens: Path) -> None:
    config, tensors = duo_llama.random_checkpoint(0)
    deep = {**config, "num_hidden_layers": 27}
    for name in [name for name in tensors if ".layers.0." in name]:
        tensors |= {name.replace(".0.", f".{layer}.", 1): tensors[name].clone() for layer in range(27)}
    write_checkpoint(tmp_path / "deep", deep, tensors, None, torch.float32)
    asked = SearchConfig(model=str(tmp_path / "deep"), data=str(duo_tokens), out=str(tmp_path / "run"), local=True)
    with pytest.raises(ValueError, match=r"27 routed layers have 134,217,728 under budget any: route fewer \(`route_layers=18-27`"):
        run_search(asked)
