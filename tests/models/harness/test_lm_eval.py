"""Tasks of lm-evaluation-harness: the full model answers as the harness's own backend for it does, question by question."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from duo_oracle.models.harness.lm_eval import RoutedLM
from duo_oracle.models.text.tokenizer import SEPARATOR, train_tokenizer
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli import main

WORDS = ("the river", "a lamp", "two birds", "his letter", "the door", "cold rain", "a song", "nine ships")
N_POSITIONS = 48
TASK = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc}}
  - {{metric: acc_norm}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of four layers with a tokenizer, as transformers saves both."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(WORDS, 280)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=N_POSITIONS,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SEPARATOR, eos_token=SEPARATOR).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    questions = [
        {"question": f"{first} and {second}, then", "choices": [f" {word}" for word in WORDS[:4]], "answer": number % 4}
        for number, (first, second) in enumerate((a, b) for a in WORDS for b in WORDS[:3])
    ]
    data = folder / "choices.jsonl"
    data.write_text("\n".join(json.dumps(question) for question in questions), "utf-8")
    (folder / "choices.yaml").write_text(TASK.format(data=data), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def their(model: Path) -> HFLM:
    return HFLM(pretrained=AutoModelForCausalLM.from_pretrained(model), tokenizer=str(model), batch_size=4, device="cpu")


def answered(model: Any, tasks: Path) -> dict[str, Any]:
    report = simple_evaluate(
        model=model, tasks=["choices"], task_manager=TaskManager(include_path=str(tasks), include_defaults=False), verbosity="ERROR"
    )
    assert report is not None
    return report


def requests(kind: str, *asked: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=arguments, idx=number) for number, arguments in enumerate(asked)]


@pytest.mark.slow
def test_the_full_model_answers_every_question_as_the_harness_s_own_backend(model: Path, tasks: Path) -> None:
    ours, wanted = answered(RoutedLM(str(model)), tasks), answered(their(model), tasks)
    assert ours["results"]["choices"]["acc,none"] == wanted["results"]["choices"]["acc,none"]
    for mine, yours in zip(ours["samples"]["choices"], wanted["samples"]["choices"], strict=True):
        assert mine["acc"] == yours["acc"]
        assert mine["acc_norm"] == yours["acc_norm"]
        for (log_p, likeliest), (log_q, greedy) in zip(mine["filtered_resps"], yours["filtered_resps"], strict=True):
            assert float(log_p) == pytest.approx(float(log_q), abs=1e-4)
            assert likeliest == greedy


@pytest.mark.parametrize(
    "text", ["the river and a lamp", "", " ".join(WORDS * 4)], ids=["short", "empty context", "beyond the positions"]
)
def test_scores_are_those_of_the_harness_s_own_backend(model: Path, text: str) -> None:
    asked = requests("loglikelihood", (text, " two birds"), (text, " cold"))
    ours, wanted = RoutedLM(str(model)).loglikelihood(asked), their(model).loglikelihood(asked)
    for mine, yours in zip(ours, wanted, strict=True):
        assert mine[0] == pytest.approx(yours[0], abs=1e-4)
        assert mine[1] == yours[1]


def test_whole_texts_have_the_log_probability_of_the_harness_s_own_backend(model: Path) -> None:
    asked = requests("loglikelihood_rolling", ("the river",), (" ".join(WORDS * 6),))
    ours, wanted = RoutedLM(str(model)).loglikelihood_rolling(asked), their(model).loglikelihood_rolling(asked)
    assert ours == pytest.approx(wanted, abs=1e-3)


def test_texts_are_generated_as_by_the_harness_s_own_backend(model: Path) -> None:
    given = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    asked = requests("generate_until", ("the river and", given), ("a song", given))
    assert RoutedLM(str(model)).generate_until(asked) == their(model).generate_until(asked)


def test_a_route_changes_the_scores_and_is_counted(model: Path) -> None:
    asked = requests("loglikelihood", ("the river and", " a lamp"), ("two", " birds"))
    full, routed = RoutedLM(str(model)), RoutedLM(str(model), "fixed:BB.B", skip="layer")
    assert full.loglikelihood(asked)[0][0] != pytest.approx(routed.loglikelihood(asked)[0][0], abs=1e-3)
    assert set(full.used) == {"B"}
    assert routed.used["B"] == 3 * routed.used["."]


def test_a_batch_changes_no_score(model: Path) -> None:
    asked = requests("loglikelihood", *((word, " a lamp") for word in WORDS))
    one, many = (RoutedLM(str(model), "fixed:B.BB", batch_size=size) for size in (1, 8))
    for mine, yours in zip(one.loglikelihood(asked), many.loglikelihood(asked), strict=True):
        assert mine[0] == pytest.approx(yours[0], abs=1e-5)


def test_what_cannot_be_run_is_refused_in_a_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 layers"):
        RoutedLM(str(model), "fixed:BBB")
    with pytest.raises(InputError, match="batch_size"):
        RoutedLM(str(model), batch_size="auto")
    sampled = requests("generate_until", ("the", {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}))
    with pytest.raises(InputError, match="greedy"):
        RoutedLM(str(model)).generate_until(sampled)
    with pytest.raises(InputError, match="1 to 47"):
        RoutedLM(str(model)).generate_until(requests("generate_until", ("the", {"until": [], "max_gen_toks": 48})))


@pytest.mark.slow
def test_the_command_has_a_row_for_every_router(
    model: Path, tasks: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out = tmp_path / "report.json"
    routers = ["--routers", "fixed:BBB.", "--routers", "fixed:B.BB"]
    command = ["lm-eval", str(model), "choices", "--include-path", str(tasks), *routers, "--format", "json", "--out", str(out)]
    assert main(command) == 0
    rows = json.loads(capfdbinary.readouterr().out)
    assert {(row["router"], row["metric"]) for row in rows} == {
        (router, metric) for router in ("full", "fixed:BBB.", "fixed:B.BB") for metric in ("acc", "acc_norm")
    }
    assert {row["router"]: row["big_layers"] for row in rows} == {"full": 4, "fixed:BBB.": 3, "fixed:B.BB": 3}
    assert {row["n"] for row in rows} == {24}
    assert json.loads(out.read_text("utf-8")).keys() == {"full", "fixed:BBB.", "fixed:B.BB"}


@pytest.mark.slow
def test_an_unknown_task_is_refused_in_a_line(
    model: Path, tasks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = partial(TaskManager, include_defaults=False)  # the harness's own tasks take half a minute to list
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda include_path, include_defaults: made(include_path=include_path))
    assert main(["lm-eval", str(model), "no_such_task", "--include-path", str(tasks)]) == 2
    assert "there is no no_such_task" in capsys.readouterr().err
