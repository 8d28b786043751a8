"""A GGUF file, opened through the `gguf` package: its metadata by key, and its tensors by name, dequantised.

What is no GGUF, is cut short or lacks a key becomes one line here. Knows nothing of architectures or tokenizers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named

MAGIC = b"GGUF"


@extras_named("import")
def require_gguf() -> None:
    """Raises InputError where the package is missing, which is an extra."""
    import gguf  # noqa: F401


class GgufFile:
    """An open GGUF file. Tensors are read where they are asked for."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where there is no such file, it is not a GGUF, or not a whole one, and where `gguf` is missing."""
        require_gguf()
        from gguf import GGUFReader

        self.path = path
        if not path.is_file():
            raise InputError(f"a GGUF file is imported; there is no file {str(path)!r}")
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise InputError(f"{path}: a GGUF file begins with {MAGIC!r}; this one begins with {magic!r}")
        try:
            reader = GGUFReader(path)
            fields = [(name, field.contents()) for name, field in reader.fields.items()]
        except Exception as fault:  # the reader checks little, so that a cut shows as whichever access fails first
            said = (str(fault).splitlines() or [""])[0]
            raise InputError(f"{path}: cut short, or not a GGUF file that gguf can read ({type(fault).__name__}: {said})") from None
        if reader.byte_order != "I":
            raise InputError(f"{path}: the file must have this machine's byte order; it has the other")
        self._metadata: dict[str, Any] = dict(fields)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    @property
    def names(self) -> list[str]:
        """The tensors' names, in the file's order."""
        return list(self._tensors)

    def get(self, key: str, default: Any = None) -> Any:
        """The metadata under a key, or the default."""
        return self._metadata.get(key, default)

    def text(self, key: str) -> str:
        value = self._required(key)
        if not isinstance(value, str):
            raise InputError(f"{self.path}: {key} must be text; got {value!r:.80}")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number above 0; the default where there is none."""
        value = self._required(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{self.path}: {key} must be a whole number above 0; got {value!r:.80}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The shortest number that is this float32: 1e-05, not 9.999999747378752e-06."""
        value = self._required(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"{self.path}: {key} must be a number; got {value!r:.80}")
        return float(str(np.float32(value)))

    def items(self, key: str, kind: type) -> list[Any]:
        """A list of strings or of whole numbers."""
        value = self._required(key)
        if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
            raise InputError(f"{self.path}: {key} must be a list of {kind.__name__}; got {value!r:.80}")
        return value

    def _required(self, key: str, default: Any = None) -> Any:
        value = self._metadata.get(key, default)
        if value is None:
            raise InputError(f"{self.path}: the metadata must have {key}; it has not")
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, outermost axis first: (out, in) of a linear map. Raises InputError where it is missing."""
        if name not in self._tensors:
            raise InputError(f"{self.path}: the tensor {name} is missing")
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def tensor(self, name: str) -> np.ndarray:
        """A tensor dequantised to float32, a copy. Raises InputError for a kind of quantisation that gguf cannot undo."""
        from gguf.quants import dequantize

        stored = self._tensors[name]
        try:
            return np.array(dequantize(stored.data, stored.tensor_type), dtype=np.float32)
        except NotImplementedError:
            raise InputError(f"{self.path}: tensor {name} is stored as {stored.tensor_type.name}, which gguf cannot undo") from None
