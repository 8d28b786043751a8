"""A model, opened: what it is, what of it can be routed, and what it loses on a text.

Light to import; torch is loaded when a model is opened. For more than a look, `oracle_model` is what the engine takes.

Axes: T token, V vocabulary, L routed layer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.shown import card
from duo_oracle.oracle.branches import DUO
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import Branch, RoutingPattern

if TYPE_CHECKING:
    from duo_oracle.models.checkpoint import Checkpoint
    from duo_oracle.oracle.model import OracleModel


@dataclass(frozen=True, eq=False)
class Model:
    """A frozen model and its checkpoint."""

    name: str
    oracle_model: OracleModel = field(repr=False)
    checkpoint: Checkpoint = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """sha256 over config, weights and tokenizer: equal models, equal prints."""
        return self.checkpoint.fingerprint

    @property
    def n_parameters(self) -> int:
        """Numbers in the checkpoint, a head that shares the embedding's counted once."""
        return sum(tensor.numel() for tensor in self.checkpoint.tensors.values())

    @property
    def branches(self) -> str:
        """The letters that every routed layer can take: .sB, or .B where one has no small FFN."""
        model = self.oracle_model
        small = set(model.routed_layers) <= set(model.small_layers)
        return "".join(branch.letter for branch in DUO.branches if small or branch is not Branch.SMALL)

    def encode(self, text: str) -> list[int]:
        """The text's token ids. Raises InputError for a model without a tokenizer."""
        from duo_oracle.models.text.tokenizer import encode, load_tokenizer

        if self.checkpoint.tokenizer_json is None:
            raise InputError(f"{self.name} has no tokenizer.json; give token ids instead of text")
        return encode(load_tokenizer(self.checkpoint.tokenizer_json), text)

    def loss(self, text: str | Sequence[int], pattern: str | None = None, skip: str = "ffn") -> float:
        """Mean nats per token of a text, or of token ids, by one plain pass in which every token takes `pattern`.

        Without a pattern every layer is big. The first token is given, not scored.

        Raises InputError for a text of fewer than two tokens or longer than the model's positions, and for a pattern that the
        model does not have.
        """
        import torch

        from duo_oracle.models.plain_losses import plain_losses
        from duo_oracle.oracle.model import check_skip, check_small

        model = self.oracle_model
        token_ids = self.encode(text) if isinstance(text, str) else [int(token) for token in text]
        if not 2 <= len(token_ids) <= model.n_positions:
            raise InputError(f"a loss is of 2 to {model.n_positions} tokens of one text; got {len(token_ids)}")
        if not all(0 <= token < model.n_vocabulary for token in token_ids):
            raise InputError(f"token ids lie between 0 and {model.n_vocabulary - 1}; got {min(token_ids)} to {max(token_ids)}")
        taken = RoutingPattern.parse(pattern or Branch.BIG.letter * model.n_letters, model.n_letters)
        check_small(set(taken.branches), model.routed_layers, model.small_layers)
        token_id_T = torch.tensor(token_ids, device=model.device)
        mask_1TL = torch.tensor([int(branch) for branch in taken.branches], dtype=torch.uint8, device=model.device)
        mask_1TL = mask_1TL.expand(1, len(token_ids) - 1, -1)
        reading = SkipReading(check_choice("reading of skip", skip, SkipReading))
        if Branch.SKIP in taken.branches:
            check_skip(reading, model)
        return float(plain_losses(model, token_id_T[None], mask_1TL, reading).mean())

    def __repr__(self) -> str:
        return f"<Model {self.name!r}: " + ", ".join(f"{name} {value}" for name, value in self._facts()) + ">"

    def _repr_html_(self) -> str:
        return card(f"model {self.name}", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        model = self.oracle_model
        return [
            ("family", str(self.checkpoint.config.get("model_type"))),
            ("layers", str(model.depth)),
            ("routed", format_layers(model.routed_layers)),
            ("branches", self.branches),
            ("vocabulary", f"{model.n_vocabulary:,}"),
            ("positions", f"{model.n_positions:,}"),
            ("parameters", f"{self.n_parameters:,}"),
            ("fingerprint", self.fingerprint[:16]),
        ]


@extras_named("open_model")
def open_model(
    model: str | os.PathLike[str], *, dtype: str = "float32", device: str = "cpu", route_layers: str | None = None
) -> Model:
    """The model of a directory, a shipped name, or OWNER/NAME of the hub; `route_layers` (such as 18-27) are the routed ones.

    >>> import duo_oracle as duo
    >>> model = duo.open_model("duo-tiny")
    >>> model.oracle_model.depth, model.branches
    (12, '.sB')
    >>> model.loss("It is a truth universally acknowledged") < model.loss("It is a truth universally acknowledged", "s" * 12)
    True

    Raises InputError as `models.load_model`.
    """
    from duo_oracle.models.checkpoint import read_checkpoint
    from duo_oracle.models.family import load_model

    name = os.fspath(model)
    checkpoint = read_checkpoint(name)
    return Model(name, load_model(checkpoint, dtype, device, route_layers), checkpoint)
