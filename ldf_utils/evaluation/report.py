"""Report: text tables for a terminal, and one HTML page that needs no other file."""

from __future__ import annotations

import base64
import inspect
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

from ldf_utils.data.files import write_text
from ldf_utils.data.names import ImageError
from ldf_utils.data.pairs import PairFolder
from ldf_utils.evaluation.evaluate import Fuser, Row, fuse, read_fused
from ldf_utils.evaluation.ranking import (
    COLUMNS,
    Interval,
    RankComparison,
    compare_ranks,
    mean_intervals,
    mean_ranks,
    metric_agreement,
    metric_names,
    truth_names,
)
from ldf_utils.metrics import as_uint8


def _mean_table(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Head and lines of a table of means: best mean rank first, the best of each column marked."""
    intervals = mean_intervals(rows)
    counts = pd.Series([row["method"] for row in rows]).value_counts()
    best: dict[str, float] = {}
    for name in names:
        means = pd.Series([mine[name].mean for mine in intervals.values()])
        best[name] = means.max() if COLUMNS[name].higher_is_better else means.min()
    return {
        "head": ["method", "images", "mean rank ↓", *(COLUMNS[name].header for name in names)],
        "lines": [
            {
                "method": method,
                "images": int(counts[method]),
                "rank": rank,
                "cells": [(x, x.mean == best[n]) for n in names for x in [intervals[method][n]]],
            }
            for method, rank in mean_ranks(rows, names).items()
        ],
    }


def text_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first aligned to the left, the others to the right."""
    table = pd.DataFrame([head, *body])
    widths = table.map(len).max()
    table = table.apply(lambda column: column.str.rjust(widths[column.name]))
    table[0] = table[0].str.strip().str.ljust(widths[0])
    return "\n".join("  ".join(line).rstrip() for line in table.to_numpy())


def format_table(rows: Sequence[Row], names: Iterable[str] | None = None) -> str:
    """Format the means as text: one line per method, best mean rank first.

    The head gives unit and better direction of each metric, the best value has a star.

    Args:
        rows: of `evaluate_set`.
        names: the columns to show and to rank by; all metrics without a reference for None.

    Raises:
        ValueError: as `mean_ranks`.
    """
    table = _mean_table(rows, metric_names(rows) if names is None else list(names))
    body = [
        [line["method"], str(line["images"]), f"{line['rank']:.2f}"]
        + [f"{x.mean:.4f}{'*' if best else ' '}" for x, best in line["cells"]]
        for line in table["lines"]
    ]
    return text_table(table["head"], body)


def format_agreement(agreement: Mapping[str, Interval]) -> str:
    """Format `metric_agreement` as text: one line per metric, best first."""
    lines = ["metric           rank correlation with the truth, 95 % interval"]
    for name, x in agreement.items():
        lines.append(f"{name:<17}{x.mean:+.2f}  [{x.low:+.2f}, {x.high:+.2f}]")
    return "\n".join(lines)


# --- the page -------------------------------------------------------------------------------------


def _inlined(png: io.BytesIO) -> str:
    """Encode a PNG file as the address of an inlined image."""
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")


def _picture(levels: torch.Tensor, width: int, smooth: bool = True) -> str:
    """Encode a ``(1, H, W)`` uint8 picture at a width as the address of an inlined image."""
    picture, png = Image.fromarray(levels[0].numpy()), io.BytesIO()
    size = (width, max(1, round(picture.height * width / picture.width)))
    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    picture.resize(size, way).save(png, format="PNG")
    return _inlined(png)


def _detail(infrared: torch.Tensor, visible: torch.Tensor) -> tuple[slice, slice]:
    """Find the part, a quarter of each side, where the sources have the most structure together."""
    height, width = infrared.shape[-2:]
    both = torch.stack([infrared, visible]).double()
    means, squares = (F.adaptive_avg_pool2d(x, 32) for x in (both, both.square()))
    structure = (squares - means.square()).clamp_min(0).sqrt().sum(dim=0)
    sums = F.avg_pool2d(structure, 8, stride=1)  # a quarter of each side
    top, left = divmod(int(sums.argmax()), sums.shape[-1])
    top, left = top * height // 32, left * width // 32
    return (
        slice(top, top + max(1, height // 4)),
        slice(left, left + max(1, width // 4)),
    )


def _rank_plot(comparison: RankComparison) -> str:
    """Mean ranks with their intervals, as the address of an inlined image."""
    methods = list(comparison.ranks)
    figure = Figure(figsize=(7, 0.8 + 0.35 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    for place, interval in enumerate(comparison.ranks.values()):
        axes.plot([interval.low, interval.high], [place, place], color="#7a8ba0", linewidth=3)
        axes.plot(interval.mean, place, "o", color="#1f3b5c")
    axes.set_yticks(range(len(methods)), methods, parse_math=False)  # "$" is a name as any other
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.margins(x=0.05)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("mean rank over the metrics (1 is best), 95 % of draws of images")
    axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, metadata={"Software": ""})
    return _inlined(png)


def _pictures(
    pairs: PairFolder, methods: Sequence[str], extra: Mapping[str, Fuser], count: int
) -> Iterator[dict[str, Any]]:
    """Show pairs spread over the set: label, picture and enlarged detail of each method."""
    for index in sorted({round(x) for x in np.linspace(0, len(pairs) - 1, min(count, len(pairs)))}):
        try:
            pair = pairs[index]
        except ImageError:  # reported where it was measured
            continue
        shown = [("infrared (source)", pair.infrared), ("visible (source)", pair.luminance)]
        for method in methods:
            try:
                if method in extra:
                    shown.append((method, fuse(method, extra[method], pair)))
                else:
                    shown.append((method, read_fused(pairs, method, pair.name, pair.size)))
            except ValueError:
                continue
        levels = [(label, as_uint8(image[None])[0]) for label, image in shown]
        rows, columns = _detail(levels[0][1], levels[1][1])
        yield {
            "name": pair.name,
            "shown": [
                (label, _picture(x, 260), _picture(x[:, rows, columns], 260, smooth=False))
                for label, x in levels
            ],
        }


def _definition(name: str) -> dict[str, Any]:
    metric = COLUMNS[name]
    text = (inspect.getdoc(metric.function) or "").split("Args:")[0].strip()
    doi = metric.source.removeprefix("DOI ") if metric.source.startswith("DOI ") else ""
    return {
        "header": metric.header,
        "parts": text.split("\n\n"),
        "source": metric.source,
        "doi": doi,
    }


def write_report(
    path: str | os.PathLike,
    pairs: PairFolder,
    rows: Sequence[Row],
    extra: Mapping[str, Fuser] | None = None,
    *,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    examples: int = 3,
) -> Path:
    """Write one HTML page that needs no other file.

    It has the means with their confidence intervals, a plot of the mean ranks, which methods can't
    be told apart, the scores against the truth where the rows have them, pictures side by side
    with the detail where the sources have most structure, the definitions of the metrics as they
    were computed, and what could not be measured.

    Args:
        path: the file.
        pairs: the set.
        rows: of `evaluate_set`.
        extra: the functions that were given to it.
        problems: what was reported while measuring.
        notes: sentences to begin with: how the pictures were read, what is suspected.
        examples: how many pairs to show, spread over the set.

    Raises:
        ValueError: as `compare_ranks`.
        OSError: if the file cannot be written.
    """
    comparison = compare_ranks(rows)
    methods, scores = list(comparison.ranks), truth_names(rows)
    agreement: Mapping[str, Interval] | str = {}
    if scores:
        try:
            agreement = metric_agreement(rows)
        except ValueError as error:
            agreement = str(error)
    source = resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    page = environment.from_string(source).render(
        title=f"Fusion of {pairs.name}: {len(pairs)} pairs, {len(methods)} methods",
        notes=notes,
        means=_mean_table(rows, metric_names(rows)),
        rank_plot=_rank_plot(comparison),
        ranking=", ".join(f"{method} {rank.mean:.2f}" for method, rank in comparison.ranks.items()),
        told=comparison.warnings() or ["Each two methods can be told apart on these images."],
        truth=_mean_table(rows, scores) if scores else None,
        agreement=agreement,
        pictures=list(_pictures(pairs, methods, extra or {}, examples)),
        definitions=[_definition(name) for name in [*metric_names(rows), *scores]],
        problems=problems,
    )
    return write_text(path, page.lstrip() + "\n")
