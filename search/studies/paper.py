"""Makes the figures of the Duo-LLM paper again: plans the searches and trainings that they need, runs them, asks the figures.

Every search goes through the normal driver and every training through the normal trainer, into subfolders of one directory, so
that the same command resumes where it was interrupted. Knows no figure by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.router import read_router, shipped_routers
from duo_oracle.models.text.sources import source_name
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window, read_sequences
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.paper.figure import LEFT_OUT, Answer, PaperFigure, figure_names, load_figure
from duo_oracle.results.paper.material import Material, random_budgets
from duo_oracle.results.paper.page import Item, Page, write_pages
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.problem import Keep
from duo_oracle.search.studies.paper_config import ReproduceConfig
from duo_oracle.search.studies.routed_losses import write_routes
from duo_oracle.search.studies.sampled_text import sample_like, write_tokens
from duo_oracle.search.studies.searched import searched
from duo_oracle.search.studies.steps import Step, check_settings, run_steps
from duo_oracle.search.studies.training_study import FULL, QUICK, run_study

MOST_LAYERS = 16  # all patterns of s and B are enumerated, and their losses kept
PAPERS_ROUTER = "budget"  # its method in models/routers/: one average budget over all layers
_SETTINGS = "reproduction.json"


class Reproduction:
    """One directory of a reproduction: what its steps are, and its answers."""

    def __init__(self, config: ReproduceConfig) -> None:
        self._config = config
        self._out = Path(config.out)
        self._checkpoint: Checkpoint = read_checkpoint(config.model)
        model = load_model(self._checkpoint, "float32", "cpu")
        self._n_letters = model.n_letters
        if not 3 <= self._n_letters <= MOST_LAYERS:
            raise InputError(f"every pattern of s and B is enumerated, for 3 to {MOST_LAYERS} layers; got {self._n_letters}")
        self._seq_len = config.seq_len or min(24 if config.quick else 192, model.n_positions)
        self._most = config.max_documents or (3 if config.quick else None)
        self._sources = {source_name(source): source for source in config.data}
        if len(self._sources) < len(config.data):
            raise InputError(f"every file of `data` has a name of its own; got {', '.join(config.data)}")
        shipped = (name for name in shipped_routers() if name.startswith(f"{config.model}/"))
        self._routers = config.router or tuple(name for name in shipped if read_router(name).name == PAPERS_ROUTER)
        self._figures: dict[str, PaperFigure] = {name: load_figure(name) for name in config.only or figure_names()}

    @property
    def left_out(self) -> dict[str, str]:
        """What is not made, by name, and why."""
        missing = {
            f"{name}: {figure.title}": "no trained router ships with this model; give one as `router`"
            for name, figure in self._figures.items()
            if "routes" in figure.needs and not self._routers
        }
        return missing | LEFT_OUT

    @property
    def made(self) -> dict[str, PaperFigure]:
        return {name: figure for name, figure in self._figures.items() if self._routers or "routes" not in figure.needs}

    def steps(self) -> list[Step]:
        """The work that the figures need, in order: what others need first, first."""
        needs = {kind for figure in self.made.values() for kind in figure.needs}
        found = []
        for holdout, source in self._sources.items():
            text = self._out / "data" / f"{holdout}-sampled.jsonl"
            if needs & {"sampled", "sampled-skip"}:
                found.append(Step(f"{holdout}: text of all-big", partial(self._sample, source, text)))
            searches = {
                "big": (source, {"budget": self._every, "null_draws": 4, "keep": Keep.LOSSES}),
                "random": (
                    source,
                    {"budget": self._some, "null_draws": 4, "strategy": "random_search", "settings": {"n": "1"}},
                ),
                "sampled": (str(text), {"budget": self._every, "null_draws": 0}),
                "skip": (source, {"budget": self._half, "null_draws": 0, "branches": ".B"}),
                "sampled-skip": (str(text), {"budget": self._half, "null_draws": 0, "branches": ".B"}),
            }
            for kind, (data, options) in searches.items():
                if kind in needs:
                    found.append(Step(f"{holdout}: {kind}", partial(self._search, f"{holdout}-{kind}", data, options)))
            if "routes" in needs:
                found.append(Step(f"{holdout}: routers", partial(self._route, holdout, source)))
        if "study" in needs:
            found.append(Step("training study", self._study))
        return found

    @property
    def _every(self) -> str:
        return f"0-{self._n_letters}"

    @property
    def _some(self) -> str:
        """Budgets at which a random pattern is compared; with no B or no other branch there is no choice to compare with."""
        return ",".join(map(str, random_budgets(self._n_letters)))

    @property
    def _half(self) -> str:
        return str(self._n_letters - self._n_letters // 2)

    def answers(self) -> dict[str, Answer]:
        """What each figure found, once the steps are done."""
        material = Material(self._out, tuple(self._sources))
        return {name: figure.answer(material) for name, figure in self.made.items()}

    def _windows(self, source: str) -> list[Window]:
        tokenizer = None if self._checkpoint.tokenizer_json is None else load_tokenizer(self._checkpoint.tokenizer_json)
        model = load_model(self._checkpoint, "float32", "cpu")
        return list(read_sequences(source, tokenizer, model.n_vocabulary, model.n_positions, self._seq_len, self._most, 1))

    def _sample(self, source: str, text: Path) -> None:
        if not text.exists():
            write_tokens(
                text, sample_like(load_model(self._checkpoint, "float32", "cpu"), self._windows(source), self._config.seed)
            )

    def _search(self, name: str, data: str, options: dict) -> None:
        searched(
            SearchConfig(
                model=self._config.model,
                data=(data,),
                out=str(self._out / "runs" / name),
                context="big",
                seq_len=self._seq_len,
                bos="none",  # as the windows that routers are run on
                per_document=1,
                max_sequences=self._most,
                seed=self._config.seed,
                workers=self._config.workers,
                local=self._config.local,
                **options,
            )
        )

    def _route(self, holdout: str, source: str) -> None:
        write_routes(self._out / "routes" / holdout, self._checkpoint, self._windows(source), self._routers, self._config.seed)

    def _study(self) -> None:
        n_workers = 1 if self._config.local else self._config.workers
        run_study(self._out / "study", QUICK if self._config.quick else FULL, self._config.seed, n_workers)


def reproduce(config: ReproduceConfig) -> dict[str, Answer]:
    """Does the work, or what is left of it, and writes README.md, index.html, verdicts.json and figures/ into `config.out`.

    Raises InputError as a search or a training does, and for a directory that holds a reproduction of other sizes.
    """
    reproduction = Reproduction(config)
    # what decides the material must be the directory's
    decisive = ("model", "data", "router", "quick", "seq_len", "max_documents", "seed")
    check_settings(Path(config.out) / _SETTINGS, {name: getattr(config, name) for name in decisive}, "a reproduction")
    answers: dict[str, Answer] = {}
    figures = Step("figures", lambda: answers.update(_written(config, reproduction)))
    run_steps([*reproduction.steps(), figures], "reproduce")
    return answers


def _written(config: ReproduceConfig, reproduction: Reproduction) -> dict[str, Answer]:
    answers, figures = reproduction.answers(), reproduction.made
    items = [Item(name, figures[name], answer) for name, answer in answers.items()]
    title = "The figures of Duo-LLM (arXiv 2410.10846), made again"
    write_pages(Path(config.out), items, Page(title, "The paper", _about(config), reproduction.left_out))
    return answers


def _about(config: ReproduceConfig) -> Sequence[str]:
    data = ", ".join(f"`{source}`" for source in config.data)
    lines = [f"Model `{config.model}`, data {data}, seed {config.seed}, made by `duo-oracle reproduce`."]
    lines.append(
        "Every verdict is of this model and these documents: a larger one, trained for longer, may show what this one does not."
    )
    if config.quick:
        lines.append("**Made quickly (`quick`): sizes at which no verdict means anything.**")
    return lines
