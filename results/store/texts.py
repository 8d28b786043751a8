"""How tokens read: the text of every vocabulary entry.

Knows tokenizer.json files (the tokenizers format) by their JSON alone, so that no tokenizer library is needed; knows
nothing of models and runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def vocabulary_texts(tokenizer_json: str | None) -> list[str] | None:
    """How each token id reads, or None without a tokenizer.

    Byte-level pieces become text; a piece that is no whole UTF-8 keeps its bytes as escapes, `\\xe2\\x80`. The word mark
    of sentence pieces becomes a space. Ids without an entry read as `<id>`.
    """
    if tokenizer_json is None:
        return None
    content = json.loads(tokenizer_json)
    model = content["model"]
    vocabulary = model["vocab"]
    pairs = vocabulary.items() if isinstance(vocabulary, dict) else ((entry[0], i) for i, entry in enumerate(vocabulary))
    pieces = {index: piece for piece, index in pairs}
    byte_level = '"ByteLevel"' in json.dumps([content.get("decoder"), content.get("pre_tokenizer")])
    texts = {index: _byte_level_text(piece) if byte_level else _sentence_piece_text(piece) for index, piece in pieces.items()}
    texts.update({added["id"]: added["content"] for added in content.get("added_tokens", [])})
    return [texts.get(index, f"<{index}>") for index in range(max(texts) + 1)]


def _byte_level_characters() -> Iterator[tuple[str, int]]:
    # GPT-2's table: printable Latin-1 bytes stand for themselves, the others for the characters from U+0100 on.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = 0
    for byte in range(256):
        if byte in printable:
            yield chr(byte), byte
        else:
            yield chr(0x100 + shifted), byte
            shifted += 1


_BYTE_OF = dict(_byte_level_characters())


def _byte_level_text(piece: str) -> str:
    if not all(c in _BYTE_OF for c in piece):
        return piece
    return bytes(_BYTE_OF[c] for c in piece).decode("utf-8", errors="backslashreplace")


def _sentence_piece_text(piece: str) -> str:
    byte = _BYTE_PIECE.fullmatch(piece)
    if byte:
        return bytes([int(byte[1], 16)]).decode("utf-8", errors="backslashreplace")
    return piece.replace("\u2581", " ")
