"""Route files: written and read back, anybody's accepted, and every malformed one refused with its file, row and value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results import Run
from duo_oracle.results.sql import query
from duo_oracle.results.store.route_files import named_file, read_routes, write_routes
from tests.results.synthetic import Synthetic

WORK = Synthetic(documents=3)
N_LAYERS, N_ROWS = 4, 3 * 2 * 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return WORK.write(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def columns(run: Run) -> dict[str, list]:
    """A whole file's columns: position p of every sequence takes the p-th pattern."""
    tokens = run.tokens().sort_values(["sequence", "position"])
    patterns = to_strings(WORK.branches_PL)
    return {
        "sequence": tokens["sequence"].tolist(),
        "position": tokens["position"].tolist(),
        "pattern": [patterns[position] for position in tokens["position"]],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.parquet"


def written(file: Path, columns: dict[str, list], metadata: dict[str, str] | None = None) -> Path:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({f"duo_oracle.{key}": value for key, value in (metadata or {}).items()}), file)
    return file


def test_what_is_written_is_read_back(run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    masks = [generator.integers(1, 3, (6, N_LAYERS)).astype(np.uint8) for _ in range(6)]
    logits = [generator.normal(size=(6, N_LAYERS, 2)) for _ in range(6)]
    facts = {"model_fingerprint": "m0", "data_fingerprint": WORK.identity["data_fingerprint"], "router": "mine", "causal": "true"}
    facts |= {"branches": "sB", "skip": "ffn", "budget": "2.5"}
    file = tmp_path / "routes.parquet"
    parts = [(number, 0, mask_TL, logits_TLK) for number, (mask_TL, logits_TLK) in enumerate(zip(masks, logits, strict=True))]
    assert write_routes(file, facts, parts, N_LAYERS) == N_ROWS
    routes = read_routes(file, run)
    assert np.array_equal(routes.branches_NL, np.concatenate(masks))
    assert (routes.name, routes.causal, routes.budget) == ("mine", True, 2.5)
    table = pq.read_table(file)
    assert [str(field.type) for field in table.schema][:3] == ["int32", "int32", "string"]
    assert np.allclose(np.array(table["logits"].to_pylist()), np.concatenate(logits), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["routes.parquet"]


def test_an_interrupted_file_leaves_nothing(tmp_path: Path) -> None:
    def parts():  # type: ignore[no-untyped-def]
        yield 0, 0, np.ones((3, N_LAYERS), np.uint8), None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_routes(tmp_path / "routes.parquet", {}, parts(), N_LAYERS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns,
        lambda columns: {name: values[::-1] for name, values in columns.items()},
        lambda columns: {**columns, "sequence": pa.array(columns["sequence"], pa.uint16())},
        lambda columns: {**columns, "pattern": pa.array(columns["pattern"]).dictionary_encode()},
        lambda columns: {**columns, "pattern": pa.array(columns["pattern"], pa.large_string()), "more": columns["position"]},
    ],
)
def test_files_from_elsewhere_need_no_metadata_no_order_and_not_our_types(
    run: Run, file: Path, columns: dict[str, list], change: Callable
) -> None:
    routes = read_routes(written(file, change(columns)), run)
    assert to_strings(routes.branches_NL) == columns["pattern"]
    assert (routes.name, routes.causal, routes.budget) == ("mine", None, None)


def replaced(name: str, row: int, value: object) -> Callable[[dict[str, list]], dict]:
    return lambda columns: {**columns, name: [*columns[name][:row], value, *columns[name][row + 1 :]]}


def without(row: int) -> Callable[[dict[str, list]], dict]:
    return lambda columns: {name: [*values[:row], *values[row + 1 :]] for name, values in columns.items()}


def appended(**row: object) -> Callable[[dict[str, list]], dict]:
    return lambda columns: {name: [*values, row[name]] for name, values in columns.items()}


MALFORMED = {
    "too short": (replaced("pattern", 4, "Bs"), r"row 4: .* 4 letters; 'Bs' has 2"),
    "too long": (replaced("pattern", 0, "BsBsB"), r"row 0: .* 4 letters; 'BsBsB' has 5"),
    "empty": (replaced("pattern", 3, ""), r"row 3: .*got ''"),
    "unknown letter": (replaced("pattern", 7, "BxsB"), r"row 7: .*letters \. s B.*'BxsB'"),
    "another branch": (replaced("pattern", 9, "B.sB"), r"row 9: .*branches 'sB'; got '\.' in 'B\.sB'"),
    "the first of two": (lambda c: replaced("pattern", 2, "x")(replaced("pattern", 5, "y")(c)), r"row 2: .*'x'"),
    "null pattern": (replaced("pattern", 2, None), r"row 2: pattern must not be null"),
    "null position": (replaced("position", 11, None), r"row 11: position must not be null"),
    "null sequence": (replaced("sequence", 1, None), r"row 1: sequence must not be null"),
    "a last token": (appended(sequence=0, position=6, pattern="ssss"), r"row 36: .*no position 6 in sequence 0"),
    "another sequence": (replaced("sequence", 8, 77), r"row 8: .*sequence 77"),
    "negative": (replaced("position", 5, -1), r"row 5: position is a whole number from 0 on; got -1"),
    "huge": (replaced("sequence", 5, 1 << 40), r"row 5: sequence .*got 1099511627776"),
    "doubled": (appended(sequence=1, position=2, pattern="ssss"), r"row 36: .*sequence 1, position 2 was in row 8"),
    "missing": (without(10), r"1 of 36 are missing, first sequence 1, position 4"),
    "no rows": (lambda c: {name: pa.array([], kind) for name, kind in TYPES.items()}, r"36 of 36 are missing"),
    "missing column": (
        lambda c: {"sequence": c["sequence"], "pattern": c["pattern"]},
        r"position is missing among sequence, pattern",
    ),
    "text positions": (lambda c: {**c, "position": [str(p) for p in c["position"]]}, r"column position .* type is string"),
    "fractions": (lambda c: {**c, "sequence": [float(s) for s in c["sequence"]]}, r"column sequence .* type is double"),
    "lists": (lambda c: {**c, "pattern": [list(p) for p in c["pattern"]]}, r"column pattern .* type is list"),
    "numbers": (lambda c: {**c, "pattern": [1] * N_ROWS}, r"column pattern .* type is int64"),
}
TYPES = {"sequence": pa.int32(), "position": pa.int32(), "pattern": pa.string()}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_file_is_refused_with_row_and_value(run: Run, file: Path, columns: dict[str, list], fault: str) -> None:
    change, said = MALFORMED[fault]
    with pytest.raises(ValueError, match=said) as caught:
        read_routes(written(file, change(columns)), run)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"model_fingerprint": "m1"}, "its model fingerprint is 'm1', that of .* is 'm0'"),
        ({"data_fingerprint": "other"}, "its data fingerprint is 'other'.*`seq_len`"),
        ({"table": "paths"}, "a part of a run, table 'paths'"),
        ({"schema_version": "9"}, "route files of version 1 can be read; its metadata says '9'"),
        ({"skip": "layer", "branches": ".sB"}, "read skip as 'layer'; .* reads it as 'ffn'"),
    ],
)
def test_metadata_of_something_else_is_refused(
    run: Run, file: Path, columns: dict[str, list], metadata: dict[str, str], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_routes(written(file, columns, metadata), run)
    assert str(file) in str(caught.value)


def test_a_reading_of_skip_matters_only_where_something_is_skipped(run: Run, file: Path, columns: dict[str, list]) -> None:
    assert read_routes(written(file, columns, {"skip": "layer", "branches": "sB"}), run).name == "mine"


def test_what_is_no_parquet_file_is_refused(run: Run, tmp_path: Path) -> None:
    text, cut = tmp_path / "text.parquet", tmp_path / "cut.parquet"
    text.write_text("sequence,position,pattern\n")
    pq.write_table(pa.table({"sequence": [0]}), cut)
    cut.write_bytes(cut.read_bytes()[:-9])
    for path in (text, cut, tmp_path):
        with pytest.raises(ValueError, match="Parquet file") as caught:
            read_routes(path, run)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="there is no"):
        read_routes(tmp_path / "none.parquet", run)


@pytest.mark.parametrize(
    ("text", "found"),
    [("a.parquet", (None, "a.parquet")), ("x=a.parquet", ("x", "a.parquet")), ("d/x=1.parquet", (None, "d/x=1.parquet"))],
)
def test_a_file_may_be_named(text: str, found: tuple[str | None, str]) -> None:
    assert named_file(text) == found


def test_a_file_whose_own_name_has_an_equals_sign_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.parquet").touch()
    assert named_file("a=b.parquet") == (None, "a=b.parquet")


def test_patterns_may_be_of_any_type_of_text(run: Run, file: Path, columns: dict[str, list], tmp_path: Path) -> None:
    plain = pq.read_table(written(file, columns))
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        at = plain.column_names.index("pattern")
        pq.write_table(plain.set_column(at, "pattern", plain["pattern"].cast(kind)), tmp_path / "other.parquet")
        assert np.array_equal(read_routes(tmp_path / "other.parquet", run).branches_NL, read_routes(file, run).branches_NL)


def test_routes_are_a_view(run: Run, file: Path, columns: dict[str, list], tmp_path: Path) -> None:
    other = Synthetic(documents=3, seed=5, length=5).write(tmp_path / "second")
    rows = other.tokens()
    shorter = written(
        tmp_path / "b.parquet",
        {"sequence": rows["sequence"].tolist(), "position": rows["position"].tolist(), "pattern": ["sssB"] * len(rows)},
    )
    files = [f"a={written(file, columns)}", f"b={shorter}"]
    found = query([run, other], "SELECT run, router, count(*) AS n, avg(n_big) AS b FROM routes GROUP BY ALL ORDER BY run", files)
    mean = sum(text.count("B") for text in columns["pattern"]) / N_ROWS
    assert found.to_pylist() == [
        {"run": "first", "router": "a", "n": N_ROWS, "b": pytest.approx(mean)},
        {"run": "second", "router": "b", "n": 24, "b": 1.0},
    ]
    with pytest.raises(ValueError, match="two 'a'"):
        query([run], "SELECT 1", [f"a={file}", f"a={file}"])
    with pytest.raises(ValueError, match=r"query with `routes='FILE.parquet'`"):
        query([run], "SELECT * FROM routes")
    with pytest.raises(ValueError, match="no position"):
        query([other], "SELECT 1", [str(file)])
