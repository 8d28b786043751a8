"""A run's words: what its full model, its cheapest pattern and its costs are called, decided here once.

Whatever is said of any run is written of a Duo-LLM, with all-big, all-small and big layers; `Words.of` says it as a run has it:
all-skip where there are no small FFNs, and over a table of experts the full model and active experts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from duo_oracle.oracle.branches import Branch, BranchTable

_WRITTEN = re.compile(r"\b(all-big|all-small)( loss\b)?|\bbig (layers?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Words:
    """`full` and `cheapest` head columns, `the_full` stands in sentences; `unit` is what costs are counted in, in the plural.

    >>> from duo_oracle.oracle.branches import parse_table
    >>> table = parse_table("top:1,2,4")
    >>> words = words_of(table, table.cheapest)
    >>> words.full, words.cheapest, words.of("gain over all-big; all-big loss by big layers")
    ('full', 'all-top-1', "gain over the full model; the full model's loss by active experts")
    """

    full: str
    the_full: str
    cheapest: str
    unit: str

    def of(self, text: str) -> str:
        """A text that is written of all-big, all-small and big layers, in these words."""

        def said(found: re.Match[str]) -> str:
            written, loss, layer = found[1], found[2] or "", found[3]
            if layer is not None:
                return self.unit if layer.endswith("s") else self.unit.removesuffix("s")
            name = self.the_full if written.lower() == "all-big" else self.cheapest
            name = name[:1].upper() + name[1:] if written[0].isupper() else name
            return name + (f"'s{loss}" if loss and name.lower().startswith("the ") else loss)

        return _WRITTEN.sub(said, text)


ANY_RUN = Words("full", "the full model", "the cheapest pattern", "big layers")
"""What is said of all runs alike, where no run is known."""


def words_of(table: BranchTable, cheapest: Branch) -> Words:
    """The words of runs over a table, whose cheapest pattern is of the branch `cheapest`."""
    if table.of_experts:
        return Words("full", "the full model", uniform_name(cheapest), table.unit)
    full = uniform_name(Branch.BIG)
    return Words(full, full, uniform_name(cheapest), table.unit)


def uniform_name(branch: Branch) -> str:
    """What the pattern of this branch alone is called: all-skip, all-small, all-big, all-top-2.

    >>> uniform_name(Branch.SKIP)
    'all-skip'
    """
    return f"all-{branch.name.lower()}"


def pattern_name(table: BranchTable, letters: str) -> str:
    """What a pattern of a table is called: its letters, or the name of the one branch that it is of.

    >>> from duo_oracle.oracle.branches import parse_table
    >>> [pattern_name(parse_table("sB"), letters) for letters in ("ssss", "BBBB", "sBsB")]
    ['all-small', 'all-big', 'sBsB']
    >>> [pattern_name(parse_table("sets:0+1,2+3"), letters) for letters in ("BBBB", "aaaa")]
    ['full', 'all-0+1']
    """
    if len(set(letters)) > 1:
        return letters
    branch = table.of_letter(letters[0])
    return words_of(table, table.cheapest).full if branch is Branch.BIG else uniform_name(branch)
