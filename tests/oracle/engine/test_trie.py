from math import comb

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from duo_oracle.oracle.budgets import ANY, Budget, BudgetKind
from duo_oracle.oracle.engine.trie import FullTree, necessary_operations, root_of_states, trie_of
from duo_oracle.oracle.flops import Flops
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.oracle.spaces import SearchSpace

SMALL_BIG = (Branch.SMALL, Branch.BIG)


def leaves_by_walking(trie, roots_SL):
    """Follow the levels' indices, appending branches: what a model would be led through."""
    prefixes = [tuple(root) for root in roots_SL.tolist()]
    for level in trie.levels:
        prefixes = [(*prefixes[parent], int(branch)) for branch, parents in level.parents.items() for parent in parents]
    return prefixes


@given(
    st.integers(1, 6),
    st.sampled_from([SMALL_BIG, tuple(Branch), (Branch.SKIP, Branch.BIG), (Branch.BIG,)]),
    st.integers(0, 7),
    st.integers(1, 40),
)
@settings(max_examples=60)
def test_blocks_hold_every_pattern_of_the_budgets_and_the_references_once(n_letters, branches, k, most_leaves):
    budgets = (ANY,) if k > n_letters else (Budget(BudgetKind.EXACT, k),)
    if k <= n_letters and branches == (Branch.BIG,):
        budgets = (Budget(BudgetKind.EXACT, n_letters),)
    tree = FullTree(n_letters, branches, budgets)
    top, blocks = tree.blocks(most_leaves)
    found = []
    for roots in blocks:
        trie = tree.below(top.branches_PL[roots])
        assert leaves_by_walking(trie, top.branches_PL[roots]) == [tuple(row) for row in trie.branches_PL.tolist()]
        found += to_strings(trie.branches_PL)
    wanted = {str(pattern) for pattern in SearchSpace(n_letters, branches, budgets[0])} | {"s" * n_letters, "B" * n_letters}
    assert len(found) == len(set(found))
    assert set(found) == wanted
    first = to_strings(tree.below(top.branches_PL[blocks[0]]).branches_PL)
    assert {"s" * n_letters, "B" * n_letters} <= set(first)


def test_blocks_keep_their_bound():
    tree = FullTree(12, tuple(Branch), (ANY,))
    top, blocks = tree.blocks(9000)
    sizes = [tree.below(top.branches_PL[roots]).n_leaves for roots in blocks]
    assert max(sizes) <= 9000
    assert sum(sizes) == 3**12


@given(st.lists(st.tuples(st.integers(0, 3), st.text(alphabet=".sB", min_size=4, max_size=4)), min_size=1, max_size=30))
def test_a_forest_leads_every_row_to_its_own_pattern_from_its_own_root(rows):
    root_P = np.array([root for root, _ in rows])
    branches_PL = np.array([[".sB".index(letter) for letter in text] for _, text in rows], dtype=np.uint8)
    trie, leaf_P = trie_of(branches_PL, root_P, n_roots=4)
    walked = leaves_by_walking(trie, np.array([[root] for root in range(4)]))
    assert [walked[leaf] for leaf in leaf_P] == [(int(root), *row) for root, row in zip(root_P, branches_PL.tolist(), strict=True)]
    assert trie.n_leaves == len(set(rows))
    assert (root_of_states(trie)[-1][leaf_P] == root_P).all()


def test_necessary_operations_are_what_counting_the_states_gives():
    """The figures that the method promises: 4,095 attentions and FFNs of each kind; 1,506 and 714 for exactly four B's."""

    def count(budget):
        levels = FullTree(12, SMALL_BIG, (budget,), references=()).top(12).levels
        attention = necessary_operations(levels, Flops(head=0, skip=1, small=1, big=1))
        big = necessary_operations(levels, Flops(head=0, skip=0, small=0, big=1))
        return attention, big

    assert count(ANY) == (4095, 4095)
    attention, big = count(Budget(BudgetKind.EXACT, 4))
    alive = [[b for b in range(layer + 1) if b <= 4 <= b + 12 - layer] for layer in range(13)]
    assert attention == sum(comb(layer, b) for layer in range(12) for b in alive[layer]) == 1506
    assert big == sum(comb(layer, b) for layer in range(12) for b in alive[layer] if b + 1 <= 4 <= b + 12 - layer) == 714
