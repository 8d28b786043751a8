"""Writes docs/families.md, every tiny configuration and what it was held to: `python -m tests.models.hf.table docs/families.md`."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import transformers

from duo_oracle.oracle.base.errors import InputError
from tests.models.hf.law import hold
from tests.models.hf.tiny import TINY

HEAD = """# Models of transformers

Any `model_type` that transformers {version} loads as a causal language model is run by one family, over the library's own modules
(`models/hf/`). What comes out is checked when a model is opened: sixteen tokens, against transformers' own passes.

This table is made by `make families`: tiny random models with the quirks of the released ones ({depth} layers), searched in the
full and in a routed context, every best pattern compared with all patterns by full passes of the library. The error is the
greatest difference of losses in nats. On the *fast* path a layer's attention runs once for all patterns that share a prefix, over
stored keys and values; on the *slow* one a layer is run as a whole over the library's own cache, so that it can be skipped with
`--skip layer` alone. Mixtures of experts run with their own routing.

{counts}

| model | `model_type` | path | error | `--skip` |
|---|---|---|---|---|
"""


def main(file: str) -> None:
    rows, counts = [], Counter[str]()
    for name, tiny in TINY.items():
        with tempfile.TemporaryDirectory() as directory:
            try:
                held = hold(name, Path(directory))
                rows.append(f"| {name} | {tiny.model_type} | {held.path} | {held.error:.1e} | {', '.join(held.skips)} |")
                counts[held.path] += 1
            except InputError as refusal:
                rows.append(f"| {name} | {tiny.model_type} | refused: {refusal} | | |")
                counts["refused"] += 1
        print(rows[-1], flush=True)
    said = f"{counts['fast']} configurations take the fast path, {counts['slow']} the slow one; {counts['refused']} are refused."
    Path(file).write_text(HEAD.format(version=transformers.__version__, depth=4, counts=said) + "\n".join(rows) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
