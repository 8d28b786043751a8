"""Writes the card of the shipped model: `README.md` and the picture of its training losses, from the files beside them.

Every number in the card is read from `config.json`, `loss.csv`, `evaluation.json` and `corpus.json`. Needs matplotlib
(extra `plots`).
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from string import Template
from typing import Any

CARD = Template("""\
# duo-tiny

A Duo-LLM small enough to search exactly on a laptop: $layers Llama-2 layers of width $hidden, each with a big SwiGLU FFN
(inner width $big) and a small one ($small, $ratio times smaller) behind the same norm and the same attention ($heads query
heads, $kv_heads key/value heads); a byte-level BPE vocabulary of $vocabulary tokens, $positions positions, tied embeddings;
$parameters parameters, stored as float16. It ships so that nobody has to train to start; its name `duo-tiny` stands
wherever a model is asked for.

## Losses

Nats per token (perplexity in brackets) on the shipped holdouts, windows of $positions tokens that do not cross documents:

| holdout | tokens | all-big | all-small |
|---|---|---|---|
$losses

![training loss](loss.svg)

The picture shows the training loss under random routing, a point per 10 steps; `loss.csv` has its numbers.

## Training

Random routing: every token takes the big FFN at each layer with probability 0.5, else the small one. $tokens tokens of
packed windows of $positions, half of them prose and half Python code, less than one pass over either; AdamW, peak rate
$rate, 2% warm-up, cosine to a tenth; seed 0, float32, $hours hours on two busy CPU cores. `make train` fetches the same
packages and repeats it (hours; it goes on where it was interrupted). Debian may have moved a package to its next point
release since, and sums of floating-point numbers differ between machines.

## Data and licences

| package | part | licence |
|---|---|---|
$packages

None is copyleft. Exact versions and the sha256 of the built corpus are in `corpus.json`. Held out as whole documents: two
of Jane Austen's novels (public domain) and the standard library of the interpreter (PSF). $rejected held-out documents were
dropped because more than 5% of their 13-word shingles stand in the training text. The shipped holdouts are a selection of
what is left (`../holdouts/README.md`).

The weights are licensed as the project is, Apache-2.0.

## What it is not good for

- Writing, answering or completing anything: it is far too small and has read far too little.
- Claims about large models. It shows how a search behaves; which layers matter is a fact about this model.
- Other languages, and text unlike manuals, a Bible, a dictionary, 19th-century novels and Python.
- Reading the best of many patterns as what compute buys: much of such a gain is selection bias. Read the excess over the null gain.
- Facts about people or the world, and anything whose failure harms someone: nothing was filtered from its sources but markup.
""")


def write_card(directory: Path) -> None:
    """Writes `README.md` and `loss.svg` into the directory of a published model."""
    config = json.loads((directory / "config.json").read_text("utf-8"))
    evaluation = json.loads((directory / "evaluation.json").read_text("utf-8"))
    corpus = json.loads((directory / "corpus.json").read_text("utf-8"))
    with (directory / "loss.csv").open(newline="") as file:
        history = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    draw_losses(history, directory / "loss.svg")
    (directory / "README.md").write_text(CARD.substitute(_facts(config, evaluation, corpus, history)), encoding="utf-8")


def _facts(
    config: dict[str, Any], evaluation: dict[str, Any], corpus: dict[str, Any], history: list[dict[str, float]]
) -> dict[str, Any]:
    from duo_oracle.models.duo_llm.module import DuoLlamaConfig  # here: drawing needs no torch

    def loss(nats: float) -> str:
        return f"{nats:.3f} ({math.exp(nats):.1f})"

    rows = [
        f"| `{source}` | {result['n_tokens']:,} | {loss(result['loss_big'])} | {loss(result['loss_small'])} |"
        for source, result in evaluation.items()
    ]
    shapes = DuoLlamaConfig.from_dict(config).tensor_shapes().values()
    packages = [f"| {package['file']} | {package['split']} | {package['licence']} |" for package in corpus["packages"]]
    return {
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "big": config["intermediate_size"],
        "small": config["small_intermediate_size"],
        "ratio": config["intermediate_size"] // config["small_intermediate_size"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "vocabulary": f"{config['vocab_size']:,}",
        "positions": config["max_position_embeddings"],
        "parameters": f"{sum(math.prod(shape) for shape in shapes):,}",
        "losses": "\n".join(rows),
        "tokens": f"{history[-1]['tokens']:,.0f}",
        "rate": max(point["learning_rate"] for point in history),
        "hours": f"{history[-1]['seconds'] / 3600:.1f}",
        "packages": "\n".join(packages),
        "rejected": len(corpus["rejected near copies"]["copied share"]),
    }


def draw_losses(history: list[dict[str, float]], path: Path) -> None:
    """The training loss over tokens as an SVG that is the same for the same numbers."""
    import matplotlib  # here: only the card draws

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "duo-tiny", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        axes.plot([point["tokens"] / 1e6 for point in history], [point["loss"] for point in history], linewidth=1, color="#1b5e8c")
        axes.set_xlabel("tokens (millions)")
        axes.set_ylabel("training loss (nats per token)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)
