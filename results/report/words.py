"""What a report says of a run in words: what was searched, how to read it, what to beware of, and its config. Knows no losses."""

from __future__ import annotations

import json
import math
from typing import Any

from duo_oracle.oracle.branches import DUO, Branch
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.answers.curve import BudgetLine
from duo_oracle.results.answers.summary import FEW_DOCUMENTS
from duo_oracle.results.report.positions import RunPositions
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.windows import front_of
from duo_oracle.results.store.words import Words

_BRANCH = {".": "no FFN at all (skip)", "s": "the small FFN", "B": "the big FFN"}
_NAME = {".": "skip", "s": "small", "B": "big"}
_EARLIER = {
    "committed": "each earlier token of the text ran its own chosen pattern",
    "same": "the earlier tokens of the text took the candidate pattern itself",
    "full": "all earlier tokens of the text ran all-big",
    "cheapest": "all earlier tokens of the text ran all-small",
}


def searched(positions: RunPositions) -> str:
    """One paragraph: model, data, tokens, documents, space, budget, strategy and context."""
    run = positions.run
    facts, identity = run.manifest.facts, run.identity
    table = run.table
    *others, last = [branch.what if table.of_experts else _BRANCH[branch.letter] for branch in reversed(table.branches)]
    branches = f"{', '.join(others)} or {last}" if others else last
    branches += f" ({table.spec})" if table.of_experts else ""
    others_big = "" if run.route_layers is None or table.of_experts else "; the others are always big"
    size = SearchSpace(run.n_letters, table.branches).size
    n_documents = len(positions.documents)
    skip = f" A skip is read as {identity.get('skip')}." if Branch.SKIP in table.branches else ""
    earlier = _EARLIER.get(run.context, f"the earlier tokens of the text took {run.config.get('context', run.context)}")
    earlier = run.words.of(earlier)
    return (
        f"At each of {positions.n_positions:,} tokens of {n_documents:,} document{'s' * (n_documents != 1)} "
        f"({facts.get('data', 'data')}), {_layers_words(run)} may each take {branches}{others_big}: "
        f"{size:,} routing pattern{'s' * (size != 1)}. The search ({identity.get('strategy')}) looked for the pattern under which "
        f"the next token has the least loss, {_budget_words(run)}, in context {run.context}: while one token's patterns were "
        f"compared, {earlier}.{skip}{_warm_words(run)}"
    )


def _warm_words(run: StoredRun) -> str:
    """What stood before the scored tokens of a window that was no choice of theirs; nothing where nothing did."""
    front, stride = front_of(run), run.identity.get("stride")
    said = ""
    if front:
        ids = " and ".join(map(str, front))
        said += f" Every window has token{'s' * (len(front) > 1)} {ids} in front, which all-big ran."
    if stride:
        seq_len = run.identity["seq_len"]
        said += f" Windows of {seq_len} tokens begin {stride} apart; all-big ran those that an earlier window scored."
    if least := run.identity.get("min_context"):
        said += f" Only tokens with {least} or more before them are predicted; all-big ran the others."
    if offset := run.identity.get("offset"):
        said += f" The first {offset} tokens of every document stand before its first window."
    return run.words.of(said)


def page_words(run: StoredRun) -> dict[str, Any]:
    """What the page calls things in a run: its full model, what costs are counted in, and what is said of its letters."""
    table, names = run.table, run.words
    letters = ", ".join(f"{branch.letter} {branch.what}" for branch in table.branches)
    every = "every routed layer" if run.route_layers is not None else "every layer"
    if table.of_experts:
        uniform = f"{every} takes {run.cheapest.what}; the model by its own router"
    else:
        letters = "B the big FFN, s the small one, . none"
        uniform = f"{every} takes the {'skip' if run.cheapest is Branch.SKIP else 'small'}, the big branch"
    return {
        "experts": table.of_experts,
        "full": names.the_full,
        "unit": names.unit,
        "letters": letters,
        "uniform": uniform,
        "share": "share of the dearest branch" if table.of_experts else "share of big",
    }


def letters_of(run: StoredRun) -> list[dict[str, Any]]:
    """Every letter that a pattern of the page may have: its name, its cost, and how its cell looks: big, small or skip."""
    table = run.table
    found = []
    for branch in table.branches if table.of_experts else DUO.branches:
        look = _NAME.get(branch.letter, "")
        if table.of_experts:
            look = "skip" if not branch.cost else "big" if branch.cost == table.dearest else "small"
        name = branch.what if table.of_experts else look
        found.append({"letter": branch.letter, "name": name, "cost": branch.cost, "look": look})
    return found


def how_to_read(null_drawn: bool, names: Words) -> list[str]:
    """The two sentences without which no oracle number should be read."""
    biased = (
        "The oracle's loss is the least of many, picked with the answer known, so it flatters every model: some pattern is always "
        "lucky."
    )
    excess = (
        f"The null gain is what the same search gains when the answer is drawn from {_itself(names)} itself, where there is "
        "nothing but selection bias to find; only the excess, gain minus null gain, can be evidence that other compute suits the "
        "tokens better."
        if null_drawn
        else "This run drew no labels, so how much of its gain is selection bias is unknown (an exact search draws four a token)."
    )
    return [biased, excess]


def _itself(names: Words) -> str:
    return names.the_full if names.the_full.endswith("model") else f"the {names.the_full} model"


def warnings(run: StoredRun, lines: list[BudgetLine]) -> list[str]:
    """What limits the run's numbers, one line each."""
    said = []
    n_documents = lines[0].oracle.n_documents
    if n_documents == 1:
        cure = "search more documents" if run.config.get("split") else "--split blank-lines or --split 512 makes some of its parts"
        said.append(f"One document: there are no intervals, and none to choose a fixed pattern on ({cure}).")
    elif n_documents < FEW_DOCUMENTS:
        said.append(f"{n_documents} documents only: the intervals are rough; take {FEW_DOCUMENTS} or more.")
    if lines[0].fixed is None:
        said.append(
            "No losses were kept, so there is no mean and no best fixed pattern beside the oracle "
            "(an exhaustive search with --keep losses keeps them)."
        )
    if run.manifest.state != "complete" and not run.manifest.failed:
        said.append("The run is not finished: these are the units done so far.")
    said += [f"Unit {unit} failed and is not in these numbers: {text}" for unit, text in sorted(run.manifest.failed.items())]
    certified = min(line.certified.mean for line in lines)
    if certified < 1:
        tolerance = run.identity.get("tolerance")
        within = f", proven to be within {tolerance:g} nats of the best" if tolerance else ""
        said.append(
            f"{1 - certified:.1%} of the paths are not proven to be the best (under the budget where the share is greatest): "
            f"there the oracle is the best that the search found{within}."
        )
    return said


def details(run: StoredRun) -> list[list[str]]:
    """Name and value of the run's config, identity, fingerprints and versions, as text."""
    manifest = run.manifest
    rows = [["run", run.place], ["run id", manifest.run_id], ["state", manifest.state]]
    rows += [[f"identity · {key}", _text(value)] for key, value in run.identity.items()]
    rows += [[f"config · {key}", _text(value)] for key, value in run.config.items() if run.identity.get(key) != value]
    rows += [[f"version · {key}", _text(value)] for key, value in manifest.facts.get("versions", {}).items()]
    seconds = sum(session.get("seconds") or 0.0 for session in manifest.sessions)
    rows.append(["searched in", f"{seconds:,.0f} s, {len(manifest.sessions)} session{'s' * (len(manifest.sessions) != 1)}"])
    return rows


def budget_label(text: str, unit: str) -> str:
    """A budget as a reader says it; `unit` is what it counts, in the plural."""
    if text == "any":
        return f"any number of {unit}"
    if text.startswith("atmost:"):
        return f"at most {text.removeprefix('atmost:')} {unit}"
    return f"exactly {text} {unit.removesuffix('s') if text == '1' else unit}"


def pattern_counts(run: StoredRun) -> list[int]:
    """How many patterns each budget has to choose from."""
    return [SearchSpace(run.n_letters, run.table.branches, run.budget(text)).size for text in run.budgets]


def _layers_words(run: StoredRun) -> str:
    """Which layers are routed, of how many where that is known: the 10 layers 18-27 of the 30 of a model."""
    model = run.manifest.facts.get("model", "the model")
    if run.route_layers is None:
        return f"the {run.n_letters} layers of {model}"
    of_all = f"of the {run.depth} of {model}" if run.depth is not None else f"of {model}"
    return f"the {run.n_letters} layers {run.route_layers} {of_all}"


def _budget_words(run: StoredRun) -> str:
    budgets, unit = run.budgets, run.words.unit
    if len(budgets) == 1:
        return f"with {budget_label(budgets[0], unit)} per token"
    if all(text.isdecimal() for text in budgets):
        numbers = sorted(map(int, budgets))
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"once for each exact number of {unit} per token from {numbers[0]} to {numbers[-1]}"
    return f"once for each of {len(budgets)} budgets of {unit} per token ({', '.join(budgets)})"


def _text(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
