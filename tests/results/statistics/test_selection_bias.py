"""Best of N, the mixture and the layers of a run, against the plain way to compute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.patterns import Branch, branch_counts, to_strings
from duo_oracle.results.answers.controls import as_json, sections_of_run
from duo_oracle.results.answers.replicas import replication
from duo_oracle.results.statistics.selection_bias import best_of_n_of_run, layers_of_run, weights_of_least
from tests.results.synthetic import Synthetic


def losses_with(work: Synthetic, n_big: int) -> np.ndarray:
    """The losses of all tokens under the patterns of so many B's."""
    mine_P = branch_counts(work.branches_PL, Branch.BIG) == n_big
    return np.concatenate([work.loss_NP(sequence)[:, mine_P] for sequence in range(work.documents * work.windows)]).astype(float)


def test_best_of_n_is_what_drawing_patterns_gives(tmp_path: Path) -> None:
    work = Synthetic()
    lines = {line.budget: line for line in best_of_n_of_run(work.write(tmp_path / "x"), (1, 4, 6))}
    loss_NP = losses_with(work, 2)
    rng = np.random.default_rng(0)
    for number, estimate in zip((1, 4, 6), lines["2"].expected, strict=True):
        drawn = [loss_NP[:, rng.permutation(6)[:number]].min(axis=1).mean() for _ in range(3000)]
        assert estimate is not None
        assert estimate.mean == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(3000) + 1e-6)
    assert lines["2"].expected[0].mean == pytest.approx(lines["2"].random.mean)
    assert lines["2"].expected[2].mean == pytest.approx(lines["2"].oracle.mean)
    assert [lines["1"].expected[1] is None, lines["1"].expected[2] is None] == [False, True]  # four patterns, not six


def test_weights_of_the_least_are_a_distribution_and_favour_the_first() -> None:
    for n in (1, 5, 29, 30):
        weight_P = weights_of_least(30, n)
        assert weight_P.sum() == pytest.approx(1)
        assert weight_P[0] == pytest.approx(n / 30)


@pytest.mark.parametrize("context", ["full", "committed"])
def test_the_mixture_is_the_loss_of_the_mean_probability(tmp_path: Path, context: str) -> None:
    work = Synthetic(context=context)
    for line in best_of_n_of_run(work.write(tmp_path / "x")):
        p_NP = np.exp(-losses_with(work, int(line.budget)))
        assert line.mixture.mean == pytest.approx(-np.log(p_NP.mean(axis=1)).mean(), abs=1e-6)
        assert line.oracle.mean - 1e-9 <= line.mixture.mean <= line.random.mean + 1e-9
        assert line.n_patterns == p_NP.shape[1]


def test_layers_have_the_effect_of_one_big_and_the_share_of_both_budgets(tmp_path: Path) -> None:
    work = Synthetic(n_letters=5, budgets="0-5", length=20)
    run = work.write(tmp_path / "x")
    pair, layers = layers_of_run(run)
    assert pair == ("2", "3")
    names = to_strings(work.branches_PL)
    loss_NP = np.concatenate([work.loss_NP(sequence) for sequence in range(12)]).astype(float)
    frame = run.paths()
    for line in layers:
        alone = names.index("s" * line.layer + "B" + "s" * (4 - line.layer))
        effect_N = loss_NP[:, alone] - loss_NP[:, names.index("sssss")]
        assert line.mu is not None
        assert line.mu.mean == pytest.approx(effect_N.mean(), abs=1e-6)
        assert line.sigma.mean == pytest.approx(effect_N.std(), abs=1e-6)
        shares = [(frame[frame["budget"] == str(k)]["pattern"].str[line.layer] == "B").mean() for k in (2, 3)]
        assert [line.low_share.mean, line.high_share.mean] == pytest.approx(shares)
        assert line.total.mean == pytest.approx(sum(shares))


def test_in_pure_noise_the_shares_at_k_and_at_the_rest_add_up_to_one() -> None:
    # the oracle of 4 takes the layers of least effect, that of 8 leaves out the four greatest; effects of unequal spread, mean 0
    effect_NL = np.random.default_rng(0).normal(0, np.linspace(0.2, 1.0, 12), (40_000, 12))
    order_NL = effect_NL.argsort(axis=1)
    shares = [np.bincount(order_NL[:, :k].ravel(), minlength=12) / 40_000 for k in (4, 8)]
    assert shares[0] + shares[1] == pytest.approx(np.ones(12), abs=0.012)
    assert shares[0][11] - shares[0][0] > 0.2  # though the layers' shares differ much


def test_the_sections_say_what_is_missing(tmp_path: Path) -> None:
    bare = Synthetic(keep=None, nulls=False, budgets="any").write(tmp_path / "x")
    text = "\n".join(map(str, sections_of_run(bare)))
    for need in ("`null_draws=4`", "`keep='losses'`", "`budget='4,8'`"):
        assert need in text
    full = sections_of_run(Synthetic().write(tmp_path / "y"), 4)
    assert [section.name for section in full] == ["gains", "label_free", "layers"]
    assert '"detectable"' in as_json(full)
    gains = full[0].records()
    for of_budget in gains:
        apart = of_budget["excess"]["mean"] - of_budget["where nothing is chosen"]["mean"]
        assert of_budget["difference"]["mean"] == pytest.approx(apart, abs=1e-6)


def test_a_replica_agrees_with_itself_and_with_another_by_chance(tmp_path: Path) -> None:
    run = Synthetic(length=40).write(tmp_path / "x")
    other = Synthetic(length=40, seed=1).write(tmp_path / "y")
    itself, apart = (replication(run, [replica]).records() for replica in (run, other))
    at_2 = {record["budget"]: record for record in itself}["2"]
    assert at_2["same path"]["mean"] == at_2["same branch"]["mean"] == 1
    assert at_2["r of excess"] == pytest.approx(1)
    assert at_2["excess moves by"]["mean"] == 0
    assert at_2["by chance"] < 0.4
    at_2 = {record["budget"]: record for record in apart}["2"]
    assert at_2["same path"]["mean"] == pytest.approx(at_2["by chance"], abs=0.06)
    assert at_2["same branch"]["mean"] == pytest.approx(at_2["by chance "], abs=0.05)
    assert abs(at_2["r of excess"]) < 0.15


def test_a_replica_is_of_the_same_text(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "x")
    with pytest.raises(ValueError, match="same data_fingerprint"):
        replication(run, [Synthetic(documents=3).write(tmp_path / "y")])
    with pytest.raises(ValueError, match="no budget in common"):
        replication(run, [Synthetic(budgets="any").write(tmp_path / "z")])
