"""Text by a routed model: each token is what one plain pass under the same routing says, token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duo_oracle.models.generating import Step, written
from duo_oracle.models.router import read_router
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import RoutingPattern
from tests.small_models import small_duo

PROMPT = [3, 17, 8]


def steps_of(router: str, n: int = 6, prompt: list[int] = PROMPT, **options: float) -> list[Step]:
    module = small_duo(seed=3).module
    return list(written(module, read_router(router), SkipReading.FFN, prompt, n, **options))


@pytest.mark.parametrize("router", ["fixed:BsB", "fixed:sB.", "random:1"])
def test_every_token_is_the_likeliest_of_one_pass_in_which_each_takes_its_pattern(router: str) -> None:
    steps = steps_of(router)
    token_ids = PROMPT + [step.token_id for step in steps]
    full = small_duo(seed=3)
    routes = [step.pattern for step in steps]
    first = steps_of(router, n=1, prompt=PROMPT[:1])[0].pattern, steps_of(router, n=1, prompt=PROMPT[:2])[0].pattern
    mask_TL = [RoutingPattern.parse(pattern).branches for pattern in (*first, *routes)]
    logits_TV = full.forward(torch.tensor([token_ids[:-1]]), torch.tensor([mask_TL], dtype=torch.uint8), SkipReading.FFN)[0]
    p_TV = logits_TV.double().softmax(-1)[len(PROMPT) - 1 :]
    assert [step.token_id for step in steps] == p_TV.argmax(-1).tolist()
    assert [step.probability for step in steps] == pytest.approx(p_TV.max(-1).values.tolist(), abs=1e-6)


def test_drawn_tokens_are_those_of_the_seed_and_of_the_temperature() -> None:
    hot, again, other = (steps_of("fixed:BBB", 20, temperature=1.5, seed=seed) for seed in (1, 1, 2))
    assert hot == again
    assert hot != other
    cold = steps_of("fixed:BBB", 20, temperature=1e-4, seed=5)
    assert cold == steps_of("fixed:BBB", 20)


def test_draws_follow_the_distribution() -> None:
    module, router = small_duo(seed=3).module, read_router("fixed:BBB")
    drawn = [next(iter(written(module, router, SkipReading.FFN, PROMPT, 1, 1.0, seed))) for seed in range(300)]
    p_V = module(torch.tensor([PROMPT]), torch.full((1, 3, 3), 2))[0, -1].double().softmax(-1).detach().numpy()
    counts_V = np.bincount([step.token_id for step in drawn], minlength=len(p_V))
    assert np.abs(counts_V / 300 - p_V).max() < 4 * np.sqrt(0.25 / 300)


def test_the_oldest_tokens_make_room() -> None:
    long = [t % 40 for t in range(100)]
    assert steps_of("fixed:BBB", 4, prompt=long) == steps_of("fixed:BBB", 4, prompt=long[-28:])


@pytest.mark.parametrize(
    ("given", "law"),
    [
        ({"prompt": []}, "at least one token"),
        ({"n": 0}, "1 to 31"),
        ({"n": 32}, "1 to 31"),
        ({"temperature": -1.0}, "at least 0"),
        ({"temperature": float("nan")}, "at least 0"),
    ],
)
def test_what_cannot_be_written_is_refused(given: dict, law: str) -> None:
    with pytest.raises(InputError, match=law):
        steps_of("fixed:BBB", **given)
