"""A model under a router or a fixed pattern as a model of lm-evaluation-harness: any of its tasks, at any routing.

Scores and generates by the module's plain passes, as the harness's own `hf` backend does: the same windows, the same token in front
of an empty context, the same left truncation. What a task asks is the harness's business. `lm_eval` is an optional package.

Axes: B batch, T token, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from torch import Tensor

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_module
from duo_oracle.models.generating import written
from duo_oracle.models.router import Router, TokenBatch, read_router
from duo_oracle.models.routing import check_router
from duo_oracle.models.text.options import SpecialTokens
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.training.batches import separator_of
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.progress import looked_on, progress
from duo_oracle.oracle.base.ranges import whole
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import finite
from duo_oracle.oracle.patterns import Branch

NAME = "duo-oracle"
PADDING = 0  # stands behind a row's last token, which no earlier token sees

Asked = tuple[Any, list[int], list[int]]
"""What was asked, the tokens of the context, the tokens that are scored."""


@register_model(NAME)
class RoutedLM(TemplateLM):
    """A causal model whose every token is routed by `router`; without one every token runs the full model.

    >>> model = RoutedLM("duo-tiny", router="fixed:BBBBBBBBBBBB", batch_size=8)
    >>> lm_eval.simple_evaluate(model=model, tasks=["arc_easy"], limit=100)["results"]  # doctest: +SKIP

    `used` counts the branches that were taken at scored and generated tokens, over all routed layers, by their letters.

    Raises InputError for a model without a tokenizer, and for a router that is not for it or chooses by what comes later.
    """

    def __init__(
        self,
        model: str,
        router: str | None = None,
        batch_size: int | str = 16,
        skip: str = "ffn",
        route_layers: str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        checkpoint = read_checkpoint(model)
        if checkpoint.tokenizer_json is None:
            raise InputError(f"a task is text, so the model must have a tokenizer.json; {model} has none")
        n_batch = whole(str(batch_size))
        if not n_batch:
            raise InputError(f"`batch_size` must be a whole number of at least 1; got {batch_size!r}")
        if device not in (None, "cpu"):
            raise InputError(f"`device` must be cpu; got {device!r}")
        self.module = load_module(checkpoint, route_layers).eval()
        self.skip = SkipReading(skip)
        self.router = self._router(router, checkpoint.fingerprint)
        self.batch_size, self.max_length = n_batch, self.module.n_positions
        self.tokens = load_tokenizer(checkpoint.tokenizer_json, SpecialTokens.PARSE)
        self._end = separator_of(self.tokens, checkpoint.config)
        begins = checkpoint.config.get("bos_token_id")
        self._begin = begins if isinstance(begins, int) else self._end
        self.used: Counter[str] = Counter()

    def _router(self, router: str | None, fingerprint: str) -> Router:
        found = read_router(f"fixed:{'B' * self.module.n_letters}" if router is None else router)
        check_router(found, self.module, self.skip, fingerprint)
        if not found.causal:
            raise InputError(f"a task is read from left to right, and router {found.spec} chooses by what comes later")
        return found

    @property
    def eot_token_id(self) -> int:
        return self._end

    @property
    def prefix_token_id(self) -> int:
        return self._begin

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **given: Any) -> list[int]:
        """Tokens as the tokenizer's own rules make them: a token in front where they put one, but not twice."""
        if add_special_tokens is None:
            front = self.tokens.id_to_token(self._begin)
            add_special_tokens = not (front and string.startswith(front))
        return self.tokens.encode(string, add_special_tokens=add_special_tokens).ids

    def _loglikelihood_tokens(
        self, requests: Sequence[Asked], disable_tqdm: bool = False, **given: Any
    ) -> list[tuple[float, bool]]:
        """ln p of every continuation behind its context, and whether each of its tokens is the likeliest."""
        order = sorted(range(len(requests)), key=lambda row: -len(requests[row][1]) - len(requests[row][2]))
        answers: dict[int, tuple[float, bool]] = {}
        with _bar(len(requests), "scoring", disable_tqdm) as bar:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                windows = [(requests[row][1] + requests[row][2])[-(self.max_length + 1) :] for row in rows]
                log_p_BTV = self._logits([window[:-1] for window in windows], rows, [len(requests[row][2]) for row in rows])
                for place, row in enumerate(rows):
                    asked, _, continuation = requests[row]
                    answers[row] = _scored(log_p_BTV[place], windows[place], len(continuation))
                    if asked is not None:
                        self.cache_hook.add_partial("loglikelihood", asked, answers[row])
                bar.update(len(rows))
        return [answers[row] for row in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of whole texts, each token once, with as much before it as the model's positions hold."""
        texts = [request.args[0] for request in requests]
        windows = [(number, window) for number, text in enumerate(texts) for window in self._rolling(text)]
        totals = [0.0] * len(texts)
        asked = [(None, context, continuation) for _, (context, continuation) in windows]
        for (number, _), (log_p, _) in zip(windows, self._loglikelihood_tokens(asked, disable_tqdm), strict=True):
            totals[number] += log_p
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def _rolling(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        windows = utils.get_rolling_token_windows(
            token_list=self.tok_encode(text), prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
        )
        return map(utils.make_disjoint_window, windows)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The likeliest tokens in turn behind every context, until a text that ends it or the most tokens that were asked for.

        Raises InputError for sampling, and for more tokens than the model's positions leave room for.
        """
        texts = []
        end = self.tokens.decode([self._end], skip_special_tokens=False)
        with _bar(len(requests), "generating", disable_tqdm) as bar:
            for number, request in enumerate(requests):
                context, given = request.args
                asked = normalize_gen_kwargs(given, 256)
                if asked.get("do_sample") or asked.get("num_beams", 1) != 1:
                    raise InputError(f"generation is greedy; got {given}")
                stops = handle_stop_sequences(asked.get("until"), eos=end)
                token_ids = self._generated(self.tok_encode(context), number, asked["max_gen_toks"], stops)
                text = postprocess_generated_text(self.tokens.decode(token_ids), stops, None)
                self.cache_hook.add_partial("generate_until", request.args, text)
                texts.append(text)
                bar.update(1)
        return texts

    def _generated(self, context: list[int], number: int, n_most: int, stops: list[str]) -> list[int]:
        token_ids: list[int] = []
        prompt = context or [self.prefix_token_id]
        for step in written(self.module, self.router, self.skip, prompt, n_most, window=number):
            if step.token_id == self._end:
                break
            token_ids.append(step.token_id)
            self.used.update(step.pattern)
            text = self.tokens.decode(token_ids)
            if any(stop and stop in text for stop in stops):
                break
        return token_ids

    @torch.no_grad()
    def _logits(self, windows: list[list[int]], rows: Sequence[int], n_asked: list[int]) -> Tensor:
        """ln p (B, T, V) of windows, padded behind their ends; counts the branches of the tokens that are asked for."""
        length = max(map(len, windows))
        token_id_BT = torch.tensor([window + [PADDING] * (length - len(window)) for window in windows])
        choose = self.router.routing(TokenBatch(token_id_BT, tuple(rows)), self.module.n_letters)

        def counted(layer: int, x_BTD: Tensor) -> Tensor:
            branch_BT = choose(layer, x_BTD)
            for place, (window, n) in enumerate(zip(windows, n_asked, strict=True)):
                taken = branch_BT[place, max(0, len(window) - n) : len(window)].tolist()
                self.used.update(Branch(branch).letter for branch in taken)
            return branch_BT

        return self.module(token_id_BT, counted, self.skip).float().log_softmax(-1)


def _scored(log_p_TV: Tensor, window: list[int], n_asked: int) -> tuple[float, bool]:
    """Of the last `n_asked` tokens of a window: their summed ln p, and whether each is the likeliest at its place."""
    n_asked = min(n_asked, len(window) - 1)
    target_T = torch.tensor(window[len(window) - n_asked :])
    rows_TV = log_p_TV[len(window) - 1 - n_asked : len(window) - 1]
    finite(rows_TV.amax(-1), "a log-probability")
    log_p = rows_TV.gather(1, target_T[:, None]).double().sum()
    return float(log_p), bool((rows_TV.argmax(-1) == target_T).all())


def _bar(total: int, what: str, disable: bool) -> Any:
    return progress(total=total, desc=what, disable=disable or not looked_on())
