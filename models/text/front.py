"""What stands in front of every window: the token that a tokenizer puts before a text, its end of text, one that is named, or none.

Most models were trained with such a token, and lose whole nats at a text's first tokens without. Knows nothing of models but the
files beside their tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from duo_oracle.models.text.tokenizer import without_panic
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import whole

AUTO, NONE = "auto", "none"


def front_tokens(
    bos: str, tokenizer: Tokenizer | None, said: Mapping[str, Any], config: Mapping[str, Any], n_vocabulary: int
) -> tuple[int, ...]:
    """The ids of the tokens that `bos` puts in front of every window: one, none, or as many as the tokenizer itself does.

    `auto` is what the tokenizer itself puts in front of a text, else its end of text where it has one, else none. Anything but
    `auto` and `none` is a token as the tokenizer writes it, or its id. `said` is what tokenizer_config.json holds, `config` what
    config.json does.

    Raises InputError for a token that the tokenizer, or the model's vocabulary, does not have.
    """
    bos = str(bos)  # an id may come as a number
    if bos == NONE or (bos == AUTO and tokenizer is None):
        return ()
    if bos == AUTO:
        assert tokenizer is not None
        found = _own_front(tokenizer)
        end = None if found else _end_of_text(tokenizer, said, config)
        front = found if end is None else (end,)
    elif (number := whole(bos)) is not None:
        front = (number,)
    else:
        token_id = None if tokenizer is None else tokenizer.token_to_id(bos)
        if token_id is None:
            lacks = "the model has no tokenizer" if tokenizer is None else "the tokenizer has no such token"
            raise InputError(f"`bos` is auto, none, a token of the tokenizer, or a token's id; got {bos!r}, and {lacks}")
        front = (token_id,)
    beyond = [token_id for token_id in front if token_id >= n_vocabulary]
    if beyond:
        raise InputError(
            f"`bos` must be a token of the model's vocabulary, 0 to {n_vocabulary - 1}; `bos={bos!r}` is token {beyond[0]} "
            "(`bos='none'` puts none in front)"
        )
    return front


def _own_front(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer puts before a text, by its template: beside which transformers heeds no `add_bos_token` either."""
    with without_panic():
        bare = tokenizer.encode("a", add_special_tokens=False).ids
        whole = tokenizer.encode("a", add_special_tokens=True).ids
    places = range(len(whole) - len(bare) + 1)
    return next((tuple(whole[:place]) for place in places if whole[place : place + len(bare)] == bare), ())


def _end_of_text(tokenizer: Tokenizer, said: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    named = _id_of(tokenizer, said.get("eos_token"))
    if named is not None or "eos_token" in said:
        return named
    ids = config.get("eos_token_id")
    special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return next((token_id for token_id in (ids if isinstance(ids, list) else [ids]) if token_id in special), None)


def _id_of(tokenizer: Tokenizer, token: Any) -> int | None:
    """The id of a token as tokenizer_config.json names one: a text, or an object with its content."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return tokenizer.token_to_id(content) if isinstance(content, str) else None
