"""The study of a pretrained model: the exact oracle over a dozen of its layers, beam search over all of them, trained routers.

Every search goes through the normal driver and every training through the normal trainer, into subfolders of one directory, so
that the same command resumes where it was interrupted. What is found is put into words in `results/paper/study_items.py`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from duo_oracle.models.checkpoint import Checkpoint, base_directory, read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.router_training.config import RouterConfig
from duo_oracle.models.router_training.stage3 import train_router
from duo_oracle.models.text.sources import source_name
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import read_sequences
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.layers import format_layers, parse_layers
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.paper.page import Item, Page, write_pages
from duo_oracle.results.paper.study import Setting, Study
from duo_oracle.results.paper.study_items import items_of
from duo_oracle.results.store.reader import StoredRun, load
from duo_oracle.search.bench.of_run import measure_speed
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.routers import compare_routers
from duo_oracle.search.studies.pretrained_config import StudyConfig
from duo_oracle.search.studies.searched import searched
from duo_oracle.search.studies.steps import Step, check_settings, run_steps
from duo_oracle.search.studies.tables import write_calibration, write_comparison

ROUTED = 12
_REACH_WINDOW = 16
"""Scored tokens of a window under a reference: the last sees 15 tokens more than the first."""
_MOST_REFERENCE = 16
"""How many times the context of the searched model its reference has there, where the document has so much."""
_MOST_FRONT = 2  # tokens in front of a window
_SAMPLE = 8  # patterns per budget that stand for all in the comparison of routers: a real vocabulary's head is dear
_SETTINGS = "study.json"


class _Plan:
    """The work of one study, in order, and where it lies."""

    def __init__(self, config: StudyConfig) -> None:
        self._config, self._out = config, Path(config.out)
        checkpoint = read_checkpoint(config.model)
        model = load_model(checkpoint)
        self.made = checkpoint.config.get("method") or {}
        self.depth, self.n_positions = model.depth, model.n_positions
        self.layers = config.route_layers or format_layers(range(max(0, model.depth - ROUTED), model.depth))
        routed = parse_layers(self.layers, model.depth)
        self.n_letters, self.has_small = len(routed), set(routed) <= set(model.small_layers)
        self.beam_big = config.beam_big or self.depth - self.depth // 5
        self.router_budget = config.router_budget or self.n_letters / 2
        self.texts = {source_name(source): source for source in config.data}
        if len(self.texts) < len(config.data):
            raise InputError(f"every file of `data` has a name of its own; got {', '.join(config.data)}")
        window = min(_REACH_WINDOW, max(1, config.reach_tokens))
        self._reach_windows = {
            "offset": config.reach_offset,
            "min_context": config.reach_context,
            "seq_len": config.reach_context + window,
            "stride": window,
            "per_document": -(-config.reach_tokens // window),
        }
        self._long_enough = config.reach_tokens > 0 and all(self._has_long(checkpoint, model, source) for source in config.data)
        # A skip needs no small FFN: on the bare model the oracle is compared with all-skip, not with all-small.
        self._bare = str(base_directory(config.model) or config.model)

    def _has_long(self, checkpoint: Checkpoint, model: OracleModel, source: str) -> bool:
        """Whether a document is long enough to be searched under a reference that sees more of it."""
        tokenizer = None if checkpoint.tokenizer_json is None else load_tokenizer(checkpoint.tokenizer_json)
        try:
            next(read_sequences(source, tokenizer, model.n_vocabulary, model.n_positions - _MOST_FRONT, **self._reach_windows))  # type: ignore[arg-type]
        except InputError:
            return False
        return True

    @property
    def settings(self) -> list[Setting]:
        found = [Setting(f"skip-{context}", ".B", context) for context in self._config.context]
        if self.has_small:
            found += [Setting(f"small-{context}", "sB", context) for context in self._config.context]
        return found

    @property
    def reached(self) -> list[Setting]:
        """The searches under a reference; none where no document is long enough."""
        found = [Setting("reach-skip", ".B", "full")] if self._long_enough else []
        return [*found, Setting("reach-small", "sB", "full")] if found and self.has_small else found

    @property
    def routers(self) -> dict[str, Path]:
        return {name: self._out / "routers" / name for name in self._config.router} if self.has_small else {}

    def run_directory(self, text: str, kind: str) -> Path:
        return self._out / "runs" / f"{text}-{kind}"

    def steps(self) -> list[Step]:
        found = []
        for text, source in self.texts.items():
            for setting in self.settings:
                found.append(Step(f"{text}: {setting.name}", partial(self._exact, text, source, setting)))
                found.append(Step(f"{text}: {setting.name}, speed", partial(self._speed, text, setting)))
            for setting in self.reached:
                found.append(Step(f"{text}: {setting.name}", partial(self._reach, text, source, setting)))
            found.append(Step(f"{text}: calibration", partial(self._calibration, text)))
            found.append(Step(f"{text}: beam", partial(self._beam, text, source)))
        for name, directory in self.routers.items():
            found.append(Step(f"router {name}", partial(self._train, name, directory)))
        for text in self.texts if self.routers else ():
            found.append(Step(f"{text}: routers", partial(self._compare, text)))
        return found

    def study(self) -> Study:
        """What the steps have left, to be put into words."""
        return Study(
            self._out,
            tuple(self.texts),
            tuple(self.settings),
            tuple(self.reached),
            tuple(self.routers),
            self.beam_big,
            self.depth,
            self.layers,
        )

    def _search(self, text: str, kind: str, source: str, **options: object) -> None:
        shared = {
            "model": self._bare,
            "bos": self._config.bos,
            "seed": self._config.seed,
            "workers": self._config.workers,
            "local": self._config.local,
            "unit_sequences": 1,
        }
        if "offset" not in options:
            shared |= {"min_context": self._config.min_context, "per_document": 1}
        config = SearchConfig(data=(source,), out=str(self.run_directory(text, kind)), **shared | options)  # type: ignore[arg-type]
        searched(config)

    def _asked(self, setting: Setting) -> dict[str, object]:
        """What an exact search of a setting is asked, but for its text."""
        return {
            "model": self._bare if setting.skips else self._config.model,
            "branches": setting.branches,
            "skip": SkipReading.LAYER if setting.skips else SkipReading.FFN,
            "route_layers": self.layers,
            "context": setting.context,
            "budget": f"any,0-{self.n_letters}",
        }

    def _exact(self, text: str, source: str, setting: Setting) -> None:
        sizes: dict[str, object] = {
            "seq_len": self._config.min_context + self._config.seq_len,
            "max_sequences": self._config.max_documents,
            "null_draws": self._config.null_draws,
        }
        if setting.context == "committed":  # every budget is a pass of its own there
            sizes |= {"budget": "any", "unit_sequences": 6}
        self._search(text, setting.name, source, **self._asked(setting) | sizes)

    def _reach(self, text: str, source: str, setting: Setting) -> None:
        self._search(
            text,
            setting.name,
            source,
            **self._asked(setting) | self._reach_windows,
            max_sequences=self._reach_windows["per_document"] * self._config.reach_documents,
            reference="self",
            reference_context=min(_MOST_REFERENCE * self._config.reach_context, self.n_positions - 1 - _MOST_FRONT),
            null_draws=1,
        )

    def _beam(self, text: str, source: str) -> None:
        self._search(
            text,
            "beam",
            source,
            strategy="beam",
            settings={"width": "2", "direction": "down"},
            branches=".B",
            skip=SkipReading.LAYER,
            context="full",
            budget=str(self.beam_big),
            null_draws=1,
            seq_len=self._config.min_context + self._config.beam_tokens,
            max_sequences=self._config.beam_documents,
        )

    def _run(self, text: str, kind: str) -> StoredRun:
        return load(self.run_directory(text, kind))

    def _speed(self, text: str, setting: Setting) -> None:
        file = self.run_directory(text, setting.name) / "speed.json"
        if not file.exists():
            write_text_whole(file, json.dumps(asdict(measure_speed(open_run(self._run(text, setting.name))))) + "\n")

    def _calibration(self, text: str) -> None:
        file = self.run_directory(text, "skip-full") / "calibration.json"
        if not file.exists():
            write_calibration(open_run(self._run(text, "skip-full")), file)

    def _train(self, name: str, directory: Path) -> None:
        if (directory / "router.json").exists():
            return
        train_router(
            RouterConfig(
                model=self._config.model,
                text=self._config.text,
                router=name,
                out=str(directory),
                budget=self.router_budget,
                tokens=self._config.router_tokens,
                route_layers=self.layers,
                seq_len=min(128, self.n_positions),
                batch=4,
                calibration_tokens=4096,
                holdouts=(),
                seed=self._config.seed,
                settings={"cutoff": "pooled"} if name == "expert_threshold" else {},
                threads=0,
            )
        )

    def _compare(self, text: str) -> None:
        file = self._out / "compare" / f"{text}.parquet"
        if not file.exists():
            found = compare_routers(
                open_run(self._run(text, "small-full")),
                tuple(str(directory) for directory in self.routers.values()),
                sample=_SAMPLE,
            )
            write_comparison(file, found, tuple(self.routers))


def run_study(config: StudyConfig) -> list[Item]:
    """Does the work, or what is left of it, and writes README.md, index.html, verdicts.json and figures/ into `config.out`.

    Raises InputError as a search or a training does, and for a directory that holds a study of other options.
    """
    plan = _Plan(config)
    # what decides the material must be the directory's
    decisive = {name: value for name, value in asdict(config).items() if name not in ("out", "workers", "local")}
    check_settings(Path(config.out) / _SETTINGS, decisive, "a study")
    items: list[Item] = []
    page = Step("page", lambda: items.extend(_written(config, plan)))
    run_steps([*plan.steps(), page], "study")
    return items


def _written(config: StudyConfig, plan: _Plan) -> list[Item]:
    items = items_of(plan.study())
    write_pages(Path(config.out), items, _page(config, plan))
    return items


def _page(config: StudyConfig, plan: _Plan) -> Page:
    data = ", ".join(f"`{source}`" for source in config.data)
    small = "it has no small FFNs"
    if plan.has_small:
        made = plan.made
        how = f", made by {made['name']} at ratio {made['ratio']:g} on {made['tokens']:,} tokens" if made else ""
        small = f"each has a small FFN too{how}"
    about = (
        f"Model `{config.model}` of {plan.depth} layers; layers {plan.layers} are routed, the others always big; {small}. "
        f"Text {data}, {config.seq_len} tokens of each of at most {config.max_documents} documents, with {config.min_context} or "
        f"more tokens before each; token in front: {config.bos}; seed {config.seed}; made by `duo-oracle study`.",
        "Every token's best pattern is exact and proven where it says so. The gain of an oracle is counted from all-big; the null "
        "gain is what the same search gains on labels drawn from all-big itself; the excess is their difference.",
    )
    left_out = {} if plan.has_small else {"small FFNs and routers": "the model has none; `duo-oracle duo` makes them"}
    if not plan.reached and config.reach_tokens:
        least = config.reach_offset + config.reach_context
        left_out["what can be reached"] = f"no document has more than {least} tokens; `--reach-offset` asks for less"
    return Page("An exact oracle of a pretrained model", "Asked", about, left_out)
