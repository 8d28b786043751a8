"""Agreement, Jaccard and collapse: by hand, and what chance gives by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_array
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.results.statistics.usage import agreement, collapse, jaccard


def rows(*texts: str) -> np.ndarray:
    return to_array(RoutingPattern.parse(text) for text in texts)


def test_by_hand() -> None:
    router, oracle = rows("BBs", "sss", "sBB"), rows("BsB", "sBs", "sBB")
    found = agreement(router, oracle, parse_branches("sB"))
    assert found["agreement"] == pytest.approx(6 / 9)
    assert found["agreement_by_layer"] == pytest.approx([1 - 2 / 3, 1 / 3 - 2 / 3, 2 / 3 - 2 / 3])
    assert found["agreement_majority"] == pytest.approx(2 / 3)
    assert found["same_pattern"] == pytest.approx(1 / 3)
    assert found["hamming"] == pytest.approx(1.0)
    assert found["jaccard"] == pytest.approx(3 / 6)


@pytest.mark.parametrize("letters", ["sB", ".sB"])
def test_chance_is_what_random_layers_give(letters: str) -> None:
    generator = np.random.default_rng(0)
    branches = parse_branches(letters)
    oracle = generator.choice([int(b) for b in branches], size=(300, 6)).astype(np.uint8)
    n_big_N = generator.integers(0, 5, 300)
    cheap = [int(b) for b in branches if b is not Branch.BIG]
    agreements, indices = [], []
    for _ in range(200):
        rank_NL = generator.random((300, 6)).argsort(axis=1).argsort(axis=1)
        drawn = np.where(rank_NL < n_big_N[:, None], int(Branch.BIG), generator.choice(cheap, size=(300, 6))).astype(np.uint8)
        found = agreement(drawn, oracle, branches)
        agreements.append(found["agreement"])
        indices.append(found["jaccard"])
    assert found["agreement_random"] == pytest.approx(np.mean(agreements), abs=0.005)
    assert found["jaccard_random"] == pytest.approx(np.mean(indices), abs=0.005)


def test_jaccard_of_equal_and_disjoint_routings() -> None:
    assert jaccard(rows("BsB"), rows("BsB")) == 1.0
    assert jaccard(rows("Bss"), rows("ssB")) == 0.0
    assert jaccard(rows("sss"), rows("sss")) == 1.0


def test_collapse_to_one_pattern_is_seen() -> None:
    one = collapse(rows(*["BBB"] * 4))
    assert one == {"patterns": 1, "entropy": 0.0, "commonest_share": 1.0, "commonest": "BBB", "all_big_share": 1.0}
    spread = collapse(rows("BBB", "sss", "sBs", "sBs"))
    assert spread["patterns"] == 3
    assert spread["entropy"] == pytest.approx(1.5 * np.log(2))
    assert (spread["commonest"], spread["commonest_share"], spread["all_big_share"]) == ("sBs", 0.5, 0.25)
