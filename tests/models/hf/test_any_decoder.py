"""Whatever transformers decodes is searched as full passes of transformers would search it, or refused.

A sample runs with all tests; every configuration by `make families`, which also writes docs/families.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from tests.models.hf.law import hold
from tests.models.hf.tiny import TINY

SAMPLE = (
    "Llama 3.2 (tied, wide heads)",
    "Mistral 0.1 (window)",
    "Gemma 2 (softcaps, windows)",
    "Phi",
    "GPT-2",
    "OPT-350m (norms behind)",
    "Granite",
    "DeepSeek V2",
    "gpt-oss (sinks)",
    "Llama 4 (chunks)",
    "SmolLM3 (layers without positions)",
    "Falcon RW (ALiBi)",
    "Mamba",
)
REFUSED = ("Gemma 3n", "RecurrentGemma")
LEAST = {"fast": 70, "slow": 12}
WITHIN = 1e-5


@pytest.mark.parametrize("name", SAMPLE)
def test_a_search_is_a_search_by_full_passes_of_the_library(name: str, tmp_path: Path) -> None:
    assert hold(name, tmp_path).error < WITHIN


@pytest.mark.slow
@pytest.mark.families
@pytest.mark.parametrize("name", [name for name in TINY if name not in REFUSED])
def test_every_configuration_is_searched_as_the_library_would(name: str, tmp_path: Path) -> None:
    assert hold(name, tmp_path).error < WITHIN


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="transformers") as refusal:
        hold(name, tmp_path)
    assert "\n" not in str(refusal.value)
