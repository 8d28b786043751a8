"""What `compare --out` writes: every figure, every token, every layer, as Parquet for more questions, and pictures of the use.

Knows planes and routed tokens, not how they came to be.

Axes: N tokens, L routed layer, W widths or bands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.whole_file import written_whole
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.results.compare.hull import Hull
from duo_oracle.results.compare.hull import as_table as hulls_table
from duo_oracle.results.compare.plane import Line, Plane, Routed, nearest_oracle
from duo_oracle.results.compare.table import as_table
from duo_oracle.results.statistics.usage import layer_agreement

BANDS = 8


def write_files(
    directory: str | os.PathLike[str], plane: Plane, routers: Sequence[Routed], lines: Sequence[Line], hulls: Sequence[Hull] = ()
) -> None:
    """Writes lines.parquet, hulls.parquet, tokens.parquet, layers.parquet and usage.svg into `directory`, made where it is not."""
    path = Path(local_path(directory))
    path.mkdir(parents=True, exist_ok=True)
    write_table(path / "lines.parquet", as_table(lines, plane.context))
    if hulls:
        write_table(path / "hulls.parquet", hulls_table(hulls))
    if routers:
        write_table(path / "tokens.parquet", pa.concat_tables([tokens_table(plane, routed) for routed in routers]))
        write_table(path / "layers.parquet", layers_table(plane, routers))
        plot_usage(plane, routers, path / "usage.svg")


def tokens_table(plane: Plane, routed: Routed) -> pa.Table:
    """One row per token: the router's pattern and its loss, beside what the plane knows of the token at the router's budget."""
    budget = float(routed.n_big_N.mean())
    average_N = plane.average.at(budget)[0] if plane.average is not None else np.full(len(routed.loss_N), np.nan)
    columns = {
        "loss": routed.loss_N,
        "real_loss": routed.real_N,
        "rank": routed.rank_N,
        "matched_random": routed.matched_N,
        "best_fixed": plane.between(plane.fixed_KN, budget),
        "random": plane.between(plane.random_KN, budget),
        "oracle": plane.between(plane.oracle_KN, budget),
        "oracle_average": average_N,
        "loss_cheapest": plane.loss_cheapest_N,
        "loss_full": plane.loss_full_N,
    }
    return pa.table(
        {
            "router": pa.array([routed.name] * len(routed.loss_N), pa.string()),
            "sequence": pa.array(plane.sequence_N, pa.int32()),
            "position": pa.array(plane.position_N, pa.int32()),
            "document": pa.array(plane.document_N.tolist(), pa.string()),
            "pattern": pa.array(to_strings(routed.branches_NL), pa.string()),
            "n_big": pa.array(routed.n_big_N, pa.int16()),
            **{name: pa.array(values_N, pa.float32(), mask=np.isnan(values_N)) for name, values_N in columns.items()},
        }
    )


def layers_table(plane: Plane, routers: Sequence[Routed]) -> pa.Table:
    """One row per router and routed layer, by its number in the model: the share of tokens that take B, beside an even use of the
    target, the oracle's share at the router's budget, how often their branches agree, and how often the oracle takes its
    commonest branch there."""
    rows = []
    for routed in routers:
        share_L = (routed.branches_NL == Branch.BIG).mean(axis=0)
        budget = float(routed.n_big_N.mean())
        oracle_NL, which = nearest_oracle(plane, budget)
        beside = None if oracle_NL is None else layer_agreement(routed.branches_NL, oracle_NL, plane.branches)
        for letter, (layer, share) in enumerate(zip(plane.layers, share_L, strict=True)):
            rows.append(
                {
                    "router": routed.name,
                    "layer": layer,
                    "big": float(share),
                    "even": (budget if routed.target is None else routed.target) / plane.n_letters,
                    "compared_with": which,
                    "oracle_big": None if oracle_NL is None else float((oracle_NL[:, letter] == Branch.BIG).mean()),
                    "agreement": None if beside is None else float(beside[0][letter]),
                    "majority": None if beside is None else float(beside[1][letter]),
                }
            )
    return pa.Table.from_pylist(rows)


def bands_of(values_N: np.ndarray, n_bands: int = BANDS) -> np.ndarray:
    """Which of `n_bands` equally full bands each value is in; equal values may share one, so that a band can be empty."""
    edges = np.quantile(values_N, np.linspace(0, 1, n_bands + 1)[1:-1])
    return np.searchsorted(edges, values_N, side="right")


def plot_usage(plane: Plane, routers: Sequence[Routed], file: str | os.PathLike[str]) -> None:
    """Heat maps of the share of B, a row per router: by layer, by position in the sequence, by the cheapest pattern's loss."""
    from duo_oracle.results.drawing import picture

    position_band_N = (BANDS * plane.position_N / (plane.position_N.max() + 1)).astype(int)
    loss_band_N = bands_of(plane.loss_cheapest_N)
    positions = _band_names(plane.position_N, position_band_N, 0)
    losses = _band_names(plane.loss_cheapest_N, loss_band_N, 1)
    big_RL = [(routed.branches_NL == Branch.BIG).mean(axis=0) for routed in routers]
    shares_N = [routed.n_big_N / plane.n_letters for routed in routers]
    maps = [
        ("layer", [str(layer) for layer in plane.layers], big_RL),
        ("position in the sequence", positions, [_by_band(share_N, position_band_N) for share_N in shares_N]),
        (f"{plane.cheapest_name}'s loss, nats", losses, [_by_band(share_N, loss_band_N) for share_N in shares_N]),
    ]
    names = [r.name if r.target is None else f"{r.name} (even: {r.target / plane.n_letters:.2f})" for r in routers]
    with picture((13.0, 1.9 + 0.26 * len(routers)), {"svg.fonttype": "none", "font.size": 8}) as figure:
        panels = figure.subplots(1, 3)
        for number, (axes, (xlabel, columns, values)) in enumerate(zip(panels, maps, strict=True)):
            image = axes.imshow(np.array(values), vmin=0, vmax=1, cmap="viridis", aspect="auto")
            axes.set_xticks(range(len(columns)), columns, rotation=0 if number == 0 else 45)
            axes.set_yticks(range(len(names)), names if number == 0 else [""] * len(names))
            axes.set_xlabel(xlabel)
        figure.colorbar(image, ax=panels, label="share of tokens and layers that are big", shrink=0.9)
        figure.suptitle(f"What routers make big: {len(plane.position_N):,} tokens, context {plane.context}", fontsize=9)
    figure.save(file)


def _by_band(share_N: np.ndarray, band_N: np.ndarray) -> list[float]:
    return [float(share_N[band_N == band].mean()) for band in np.unique(band_N)]


def _band_names(at_N: np.ndarray, band_N: np.ndarray, digits: int) -> list[str]:
    """From where to where each band goes, that holds a token."""
    inside = [at_N[band_N == band] for band in np.unique(band_N)]
    return [f"{values.min():.{digits}f}-{values.max():.{digits}f}" for values in inside]


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a Parquet file whole or not at all."""
    with written_whole(path) as aside:
        pq.write_table(table, aside, compression="zstd")
