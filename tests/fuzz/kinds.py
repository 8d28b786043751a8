"""Which inputs are mutated, how, and which commands read them: a table. A kind copies good inputs and spoils one file, or a word.

Commands run in the folder of the copies; what they may write to is `out/`, or what `--out` names.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from tests.fuzz.mutations import Rng, bytes_of, json_of, pick, table_of, words_of

Spoil = Callable[[Rng, Path], None]


@dataclass(frozen=True)
class Kind:
    """`weight`: how often, against the others; `uses`: good inputs, copied; `files`: globs, one file of which is spoiled."""

    weight: float
    uses: tuple[str, ...]
    files: tuple[str, ...]
    spoil: Spoil | None
    commands: tuple[str, ...]

    def words(self, rng: Rng) -> list[str]:
        words: list[str] = pick(rng, self.commands).split()
        return words if self.spoil is not None else words_of(rng, words)


def in_bytes(rng: Rng, path: Path) -> None:
    path.write_bytes(bytes_of(rng, path.read_bytes()))


def in_json(rng: Rng, path: Path) -> None:
    if rng.random() < 0.15:
        in_bytes(rng, path)
    else:
        path.write_text(json_of(rng, json.loads(path.read_text())), encoding="utf-8", errors="surrogatepass")


def in_lines(rng: Rng, path: Path) -> None:
    """One line of several, as JSON, or the bytes of all."""
    if rng.random() < 0.3:
        in_bytes(rng, path)
        return
    lines = path.read_text().splitlines()
    at = int(rng.integers(len(lines)))
    lines[at] = json_of(rng, json.loads(lines[at]))
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="surrogatepass")


def in_yaml(rng: Rng, path: Path) -> None:
    import yaml

    if rng.random() < 0.4:
        in_bytes(rng, path)
    else:
        path.write_text(json_of(rng, yaml.safe_load(path.read_text())), encoding="utf-8", errors="surrogatepass")


def in_header(rng: Rng, path: Path) -> None:
    """The JSON in front of a safetensors file, its length right as a rule."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if rng.random() < 0.25:
        path.write_bytes(bytes_of(rng, content[: 8 + length]) + content[8 + length :])
        return
    header = json_of(rng, json.loads(content[8 : 8 + length])).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def in_table(rng: Rng, path: Path) -> None:
    if rng.random() < 0.25:
        in_bytes(rng, path)
        return
    read = feather.read_table if path.suffix == ".arrow" else pq.read_table
    try:
        table = table_of(rng, read(path))
        if path.suffix == ".arrow":
            feather.write_feather(table, str(path), compression="uncompressed")
        else:
            pq.write_table(table, path)
    except (pa.ArrowException, ValueError):  # such a table cannot be written
        in_bytes(rng, path)


def in_sealed_part(rng: Rng, path: Path) -> None:
    """A part of a run whose manifest names it as it is now: what a checksum does not keep out."""
    in_table(rng, path)
    manifest = path.parent.parent / "run.json"
    values = json.loads(manifest.read_text())
    content = path.read_bytes()
    try:
        n_rows = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError, ValueError):
        n_rows = 1
    for unit in values["units"]:
        if f"part-{unit['unit']:05d}.parquet" == path.name:
            unit["parts"][path.parent.name] = {
                "rows": n_rows,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            unit["tokens"] = n_rows if path.parent.name == "tokens" else unit["tokens"]
    manifest.write_text(json.dumps(values))


def in_sealed_manifest(rng: Rng, path: Path) -> None:
    """A manifest whose id is again its identity's."""
    values = json.loads(path.read_text())
    try:
        identity = json.loads(json_of(rng, values["identity"]))
        text = json.dumps(identity, sort_keys=True)
    except (ValueError, RecursionError):
        in_json(rng, path)
        return
    run_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_text(json.dumps({**values, "identity": identity, "run_id": run_id}))


_SEARCH = "search {} data.jsonl --local --out out/run"
_RESUMES = "search duo data.jsonl --local --unit-sequences 1 --context full --budget 0-2,any --keep losses --null-draws 1 --out "
_ROUTE = "route duo router data.jsonl --out out/routes.parquet"
_MODELS = ("duo", "llama", "mixtral", "gpt2")
_QUICK = " --max-sequences 1 --null-draws 1"
_ASKS = (
    "query run hardest_tokens",
    "query run budget_curve --format json",
    "query run SELECT+*+FROM+oracle --format csv",
    "difficulty run --top 3",
    "difficulty run --group document",
    "difficulty run --picture out/p.svg",
    "curve run",
    "landscape run",
    "controls run --format json",
    "report run --out out/r.html",
    "runs .",
    "runs show run",
    "verify run",
    "compare run --router fixed:sBs --format json",
    "strategies run --strategy random_search:n=2 --budget 1 --format json",
    _RESUMES + "run",
)
_ROUTED = (
    "compare run --routes routes.parquet --format csv",
    "query run SELECT+*+FROM+routes --routes routes.parquet --format json",
    "report run --routes mine=routes.parquet --out out/r.html",
)

KINDS: dict[str, Kind] = {
    **{
        f"config of {name}": Kind(1.5, (name, "data.jsonl"), (f"{name}/config.json",), in_json, (_SEARCH.format(name) + _QUICK,))
        for name in _MODELS
    },
    "tokenizer": Kind(2, ("duo", "data.jsonl"), ("duo/tokenizer.json",), in_json, (_SEARCH.format("duo") + _QUICK,)),
    "what a tokenizer says": Kind(
        0.7,
        ("sharded", "data.jsonl"),
        ("sharded/tokenizer_config.json", "sharded/special_tokens_map.json"),
        in_json,
        (_SEARCH.format("sharded") + _QUICK,),
    ),
    "safetensors header": Kind(
        1.5,
        ("duo", "llama", "data.jsonl"),
        ("*/model.safetensors",),
        in_header,
        tuple(_SEARCH.format(m) + _QUICK for m in _MODELS[:2]),
    ),
    "safetensors": Kind(0.7, ("duo", "data.jsonl"), ("duo/model.safetensors",), in_bytes, (_SEARCH.format("duo") + _QUICK,)),
    "index of shards": Kind(
        0.7, ("sharded", "data.jsonl"), ("sharded/*.index.json",), in_json, (_SEARCH.format("sharded") + _QUICK,)
    ),
    "GGUF": Kind(0.7, ("model.gguf",), ("model.gguf",), in_bytes, ("import model.gguf --out out/model",)),
    "jsonl data": Kind(2, ("duo", "data.jsonl"), ("data.jsonl",), in_lines, (_SEARCH.format("duo") + _QUICK,)),
    "jsonl of tokens": Kind(
        1, ("duo", "tokens.jsonl"), ("tokens.jsonl",), in_lines, ("search duo tokens.jsonl --local --null-draws 0 --out out/run",)
    ),
    "parquet data": Kind(
        1.5,
        ("duo", "data.parquet"),
        ("data.parquet",),
        in_table,
        ("search duo data.parquet --local --max-sequences 2 --out out/run",),
    ),
    "arrow data": Kind(
        1, ("duo", "data.arrow"), ("data.arrow",), in_table, ("search duo data.arrow --local --max-sequences 2 --out out/run",)
    ),
    "text data": Kind(
        0.7,
        ("duo", "data.txt"),
        ("data.txt",),
        in_bytes,
        ("search duo data.txt --local --seq-len 9 --max-sequences 2 --out out/run",),
    ),
    "compressed data": Kind(
        0.7,
        ("duo", "data.txt.gz"),
        ("data.txt.gz",),
        in_bytes,
        ("search duo data.txt.gz --local --seq-len 9 --max-sequences 2 --out out/run",),
    ),
    "manifest": Kind(1.5, ("duo", "data.jsonl", "run"), ("run/run.json",), in_json, _ASKS),
    "manifest with its id": Kind(1.5, ("duo", "data.jsonl", "run"), ("run/run.json",), in_sealed_manifest, _ASKS),
    "part": Kind(0.7, ("duo", "data.jsonl", "run"), ("run/*/part-*.parquet",), in_bytes, (*_ASKS, "verify run --repair")),
    "part with its checksum": Kind(2.5, ("duo", "data.jsonl", "run"), ("run/*/part-*.parquet",), in_sealed_part, _ASKS),
    "trials with their checksum": Kind(
        0.7,
        ("duo", "data.jsonl", "tried"),
        ("tried/*/part-*.parquet",),
        in_sealed_part,
        ("pareto tried", "query tried SELECT+*+FROM+trials --format json", "curve tried", "verify tried"),
    ),
    "journal": Kind(
        1.5,
        ("duo", "data.jsonl", "half"),
        ("half/units.jsonl",),
        in_lines,
        (
            "query half hardest_tokens",
            "runs show half",
            _RESUMES + "half",
        ),
    ),
    "router": Kind(
        1,
        ("duo", "data.jsonl", "router"),
        ("router/router.json",),
        in_json,
        (
            _ROUTE,
            "usage router",
            _SEARCH.format("duo") + " --context router:router",
        ),
    ),
    "router's weights": Kind(
        0.7,
        ("duo", "data.jsonl", "router"),
        ("router/router.safetensors",),
        in_header,
        (_ROUTE,),
    ),
    "routes": Kind(1.5, ("duo", "data.jsonl", "run", "routes.parquet"), ("routes.parquet",), in_table, _ROUTED),
    "reference file": Kind(
        1,
        ("duo", "data.jsonl", "reference.parquet"),
        ("reference.parquet",),
        in_table,
        (_SEARCH.format("duo") + " --reference reference.parquet",),
    ),
    "strategies' table": Kind(
        0.5,
        ("run", "strategies.json"),
        ("strategies.json",),
        in_json,
        ("report run --strategies strategies.json --out out/r.html",),
    ),
    "options in a file": Kind(
        2,
        ("duo", "data.jsonl", "config.yaml"),
        ("config.yaml",),
        in_yaml,
        (_SEARCH.format("duo") + " --config config.yaml --max-sequences 1",),
    ),
    "a run's own options": Kind(
        0.7,
        ("duo", "data.jsonl", "half"),
        ("half/config.yaml",),
        in_yaml,
        ("search --config half/config.yaml --max-sequences 1 --local --out out/run",),
    ),
    "words of a search": Kind(
        3,
        ("duo", "data.jsonl"),
        (),
        None,
        (
            "search duo data.jsonl --local --strategy beam --set width=2 --branches sB --context full --budget 0-2 --out out/run",
            "search duo data.jsonl --local --null-draws 2 --null-temperature fit --seq-len 8 --stride 4 --seed 1 --out out/run",
            "search duo data.jsonl --local --split 4 --bos none --route-layers 0-1 --memory 64MiB --out out/run",
            "route duo random:1 data.jsonl --seq-len 8 --out out/routes.parquet",
        ),
    ),
    "words of a question": Kind(
        2,
        ("duo", "data.jsonl", "run", "router", "routes.parquet"),
        (),
        None,
        (
            *_ASKS[:-1],
            "compare run --router random:1 --router router --routes routes.parquet --budget 1",
            "query run SELECT+token,+avg(loss)+FROM+oracle+GROUP+BY+token --memory 100MB --time-limit 5",
            "difficulty run --by excess --budget 1 --sequence 1 --top 2 --format markdown",
        ),
    ),
}


def words_with_spaces(words: list[str]) -> list[str]:
    """A `+` in a command of the table stands for a space inside a word."""
    return [word.replace("+", " ") for word in words]
