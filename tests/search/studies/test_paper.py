"""The paper's figures made again, on a model small enough that all of it takes seconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.paper.figure import figure_names
from duo_oracle.search.cli import main
from duo_oracle.search.studies.paper import Reproduction, reproduce
from duo_oracle.search.studies.paper_config import ReproduceConfig
from duo_oracle.search.studies.sampled_text import sample_like
from tests.small_models import random_tokens, small_duo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers of random weights with the shipped tokenizer, so that the shipped holdouts can be read."""
    config = DuoLlamaConfig(
        vocab_size=4096,
        hidden_size=16,
        intermediate_size=32,
        small_intermediate_size=4,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        head_dim=4,
    )
    module = DuoLlama(config)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(p.shape, generator=generator) * 0.3 for name, p in module.state_dict().items()}
    directory = tmp_path_factory.mktemp("models") / "small"
    write_checkpoint(directory, config.to_dict(), tensors, read_checkpoint("duo-tiny").tokenizer_json, torch.float32)
    return directory


def config_of(model: Path, out: Path, **values: object) -> ReproduceConfig:
    base = {"model": str(model), "out": str(out), "quick": True, "local": True, "router": ("random:1", "random:1+2")}
    return ReproduceConfig(**{**base, **values})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> ReproduceConfig:
    config = config_of(model, tmp_path_factory.mktemp("out") / "paper")
    reproduce(config)
    return config


@pytest.mark.long
def test_every_figure_is_made_with_its_verdict_its_control_and_its_picture(made: ReproduceConfig) -> None:
    out = Path(made.out)
    verdicts = json.loads((out / "verdicts.json").read_text())
    assert set(verdicts) == set(figure_names())
    page = (out / "README.md").read_text()
    for name, entry in verdicts.items():
        assert entry["verdict"] in ("found", "not distinguishable from selection bias", "not found")
        assert entry["effects"]
        assert (out / "figures" / f"{name}.svg").read_text().count("<svg") == 1
        assert f"> **{entry['verdict']}** · {entry['deciding']}" in page
    assert page.count("Control: ") == len(verdicts)
    assert "**Figure 9**" in page
    assert "no verdict means anything" in page


@pytest.mark.long
def test_the_html_page_stands_alone(made: ReproduceConfig) -> None:
    page = (Path(made.out) / "index.html").read_text()
    assert page.count("<svg") == len(figure_names())
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', page))
    assert used <= set(ids)


@pytest.mark.long
def test_the_same_command_searches_and_trains_nothing_again(made: ReproduceConfig) -> None:
    out = Path(made.out)
    kept = [
        *out.glob("runs/*/paths/*.parquet"),
        *out.glob("study/*/model.safetensors"),
        *out.glob("data/*.jsonl"),
        *out.glob("routes/*/*.parquet"),
    ]
    before = {path: path.stat().st_mtime_ns for path in kept}
    first = (out / "verdicts.json").read_bytes(), (out / "figures" / "fig4b.svg").read_bytes()
    reproduce(made)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert len(before) > 20
    assert ((out / "verdicts.json").read_bytes(), (out / "figures" / "fig4b.svg").read_bytes()) == first


@pytest.mark.slow
def test_one_figure_asks_for_its_own_material_alone(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--local", "--only", "fig2d", "--out", str(tmp_path / "one")]
    assert main(["reproduce", str(model), *arguments]) == 0
    assert {path.name for path in (tmp_path / "one" / "runs").iterdir()} == {
        f"{holdout}-{kind}" for holdout in ("prose", "code") for kind in ("skip", "sampled-skip")
    }
    shown = capsys.readouterr().out
    assert re.match(r"fig2d  (found|not)", shown)
    assert "index.html" in shown
    assert main(["reproduce", str(model), *arguments, "--seq-len", "16"]) == 2
    assert "holds a reproduction with seq_len None, not 16" in capsys.readouterr().err


def test_without_routers_their_figures_are_left_out_by_name(model: Path, tmp_path: Path) -> None:
    reproduction = Reproduction(config_of(model, tmp_path, router=()))
    assert set(figure_names()) - set(reproduction.made) == {"fig3", "fig4a", "fig7"}
    assert any(name.startswith("fig3: ") for name in reproduction.left_out)
    assert {"Figure 9", "the sizes of the paper"} <= set(reproduction.left_out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "fig44b"], "unknown figure 'fig44b'; did you mean 'fig4b'?"),
        (["--max-documents", "1"], "--max-documents must be at least 2; got 1"),
        (["--local", "--workers", "2"], "--local works in this one process"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_sampled_text_is_what_all_big_draws_at_each_position() -> None:
    """Held to one plain forward pass: the label drawn at a position, and the next token of the text, are one."""
    model = small_duo(spread=0.5)
    sequences = [
        Window(index, f"document {index}", random_tokens(length, seed=index).numpy()) for index, length in enumerate((9, 14))
    ]
    sampled = sample_like(model, sequences, seed=3)
    for real, drawn in zip(sequences, sampled, strict=True):
        assert (drawn.index, drawn.document, len(drawn.token_ids)) == (real.index, real.document, len(real.token_ids))
        assert drawn.token_ids[0] == real.token_ids[0]
        token_id_1T = torch.from_numpy(drawn.token_ids.astype(np.int64))[None, :-1]
        mask_1TL = torch.full((*token_id_1T.shape, model.n_letters), Branch.BIG, dtype=torch.uint8)
        logits_TV = model.forward(token_id_1T, mask_1TL, SkipReading.FFN)[0]
        cumulative_TV = torch.softmax(logits_TV.double(), dim=1).cumsum(dim=1)
        for position in range(real.n_positions):
            uniform = np.random.default_rng((3, real.index, position)).random()
            assert drawn.token_ids[position + 1] == int((cumulative_TV[position] <= uniform).sum())
    assert len({tuple(s.token_ids[1:9]) for s in sampled}) == 2


def test_a_sequence_is_sampled_alike_alone_and_beside_others() -> None:
    model = small_duo()
    sequences = [Window(index, "d", random_tokens(10 + index, seed=index).numpy()) for index in range(3)]
    together = sample_like(model, sequences, seed=0)
    for sequence, drawn in zip(sequences, together, strict=True):
        assert np.array_equal(sample_like(model, [sequence], seed=0)[0].token_ids, drawn.token_ids)


def test_labels_and_sampled_text_use_one_rule() -> None:
    model = small_duo()
    h_1D = Head(model).states(model.embed(torch.tensor([3]), torch.tensor([0])))
    drawn = NullLabels(1, 5).labels(Head(model), h_1D, torch.tensor([0]), [(0, 0)])
    again = NullLabels(4, 5).labels(Head(model), h_1D, torch.tensor([0]), [(0, 0)])
    assert drawn[0, 1] == again[0, 1]
