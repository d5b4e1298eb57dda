"""Evaluation: folders of fused pictures to tables, means and ranks.

``python -m ldf_utils.evaluation SET_DIR`` measures every ``fused_METHOD/`` of a set against its
``ir/`` and ``vi/``.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ldf_utils.files import write_rows
from ldf_utils.images import ImageError, Pair, PairFolder, luminance, read_image
from ldf_utils.metrics import METRICS, Metric, as_uint8, measure, select

MEAN = "mean"

Row = dict[str, Any]
Fuser = Callable[[Pair], torch.Tensor]


class EvaluationWarning(UserWarning):
    """A result that could not be measured; the others were."""


def _warn(problem: str) -> None:
    warnings.warn(problem, EvaluationWarning, stacklevel=3)


def _fused_from_file(pairs: PairFolder, method: str, pair: Pair) -> torch.Tensor:
    path = pairs.fused_path(method, pair.name)
    folder = pairs.folder / f"fused_{method}"
    if path is None:
        raise ImageError(
            f"{folder}: no result for the pair {pair.name!r}; expected {pair.name}.png (or another "
            "picture of that stem). Fuse this pair with the method, or leave the method out"
        )
    fused = luminance(read_image(path))
    if fused.shape != pair.infrared.shape:
        (height, width), (h, w) = pair.size, fused.shape[-2:]
        raise ImageError(
            f"{path} is {w} x {h} pixels, its sources are {width} x {height}; metrics compare "
            "pixel by pixel. Save the result at the size of the sources"
        )
    return fused


def _fused_by_function(method: str, function: Fuser, pair: Pair) -> torch.Tensor:
    fused = function(pair)
    if fused.ndim == 4 and fused.shape[0] == 1:
        fused = fused[0]
    if fused.shape != pair.infrared.shape:
        raise ImageError(
            f"{method} made a picture of shape {tuple(fused.shape)} for the pair {pair.name!r}, "
            f"expected {tuple(pair.infrared.shape)}: luminance of the size of the sources"
        )
    return fused.detach().cpu()


def _fitting(chosen: Iterable[Metric], pair: Pair, on_problem: Callable[[str], None]) -> list[str]:
    """The metrics that a picture of this size is large enough for; the others are reported."""
    chosen = list(chosen)
    small = [metric for metric in chosen if metric.smallest > min(pair.size)]
    if small:
        height, width = pair.size
        needs = ", ".join(f"{m.name} (from {m.smallest} x {m.smallest})" for m in small)
        on_problem(f"the pair {pair.name!r} is {width} x {height} pixels, too small for {needs}")
    return [metric.name for metric in chosen if metric not in small]


def evaluate_set(
    pairs: PairFolder,
    methods: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
    extra: Mapping[str, Fuser] | None = None,
    *,
    on_problem: Callable[[str], None] = _warn,
    progress: bool = True,
) -> list[Row]:
    """Measure the results of methods on the pairs of a set, one pair in memory at a time.

    Args:
        pairs: the set.
        methods: METHODs of ``fused_METHOD/`` folders; all there are for None.
        metrics: names in `ldf_utils.metrics.METRICS`; the usual nine for None.
        extra: method name to a function of a pair that returns fused luminance ``(1, H, W)`` in
            [0, 1], for methods that need no files. Its pictures are rounded to 8 bits first, as
            if they had been saved.
        on_problem: called with one sentence for each result that is missing, unreadable or of
            the wrong size; the rest is measured. By default an `EvaluationWarning` is issued.
        progress: whether to show a progress bar.

    Returns:
        One row per method and image, ``{"method", "image", *metrics}``, ordered by method (in the
        order of ``methods``, then of ``extra``) and image. A metric that needs a larger picture
        is NaN, and reported.

    Raises:
        ValueError: for an unknown metric or method, or a name in both ``methods`` and ``extra``.
    """
    chosen = select(metrics)
    names = [metric.name for metric in chosen]
    known = pairs.fused_methods()
    methods = known if methods is None else list(methods)
    unknown = [method for method in methods if method not in known]
    if unknown:
        raise ValueError(
            f"{pairs.folder}: no folder fused_{unknown[0]}; results are there of "
            f"{', '.join(known) or 'no method'}"
        )
    extra = dict(extra or {})
    twice = [method for method in extra if method in methods]
    if twice:
        raise ValueError(f"{', '.join(twice)}: name in both methods and extra; rename one")
    if not methods and not extra:
        raise ValueError(
            f"{pairs.folder}: nothing to measure; expected folders fused_METHOD/ with results that "
            "have the stems of the pairs"
        )
    rows: dict[str, list[Row]] = {method: [] for method in (*methods, *extra)}
    bar = tqdm(range(len(pairs)), desc=f"Measuring {pairs.name}", disable=not progress)
    for index in bar:
        try:
            pair = pairs[index]
        except ImageError as error:
            on_problem(f"the pair {pairs.names[index]!r} is left out for every method: {error}")
            continue
        sources = [as_uint8(image[None]) for image in (pair.infrared, pair.luminance)]
        fitting = _fitting(chosen, pair, on_problem)
        for method, list_of_rows in rows.items():
            try:
                if method in extra:
                    fused = _fused_by_function(method, extra[method], pair)
                else:
                    fused = _fused_from_file(pairs, method, pair)
                values = measure(fused[None], *sources, metrics=fitting)
            except ValueError as error:  # ImageError is one
                on_problem(f"{method}, pair {pair.name!r}: {error}")
                continue
            row = {name: values[name].item() if name in values else math.nan for name in names}
            list_of_rows.append({"method": method, "image": pair.name, **row})
    return [row for list_of_rows in rows.values() for row in list_of_rows]


def metric_names(rows: Sequence[Row]) -> list[str]:
    """The metrics that the rows hold, in their order."""
    return [key for key in rows[0] if key in METRICS] if rows else []


def _by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row["image"] != MEAN:
            grouped.setdefault(row["method"], []).append(row)
    return grouped


def _mean(values: Iterable[float]) -> float:
    values = [value for value in values if not math.isnan(value)]
    return math.fsum(values) / len(values) if values else math.nan


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """The mean of each metric over the images of each method.

    Args:
        rows: of `evaluate_set`.

    Returns:
        One row per method, ``{"method", "image": "mean", *metrics}``, in the order of ``rows``.
        A method that misses images is averaged over those it has, and a metric over the images
        that are large enough for it (NaN where none is).
    """
    names = metric_names(rows)
    return [
        {
            "method": method,
            "image": MEAN,
            **{name: _mean(row[name] for row in mine) for name in names},
        }
        for method, mine in _by_method(rows).items()
    ]


def with_means(rows: Sequence[Row]) -> list[Row]:
    """The rows with the mean row of each method after its images."""
    means = {row["method"]: row for row in mean_rows(rows)}
    grouped = _by_method(rows)
    return [row for method, mine in grouped.items() for row in (*mine, means[method])]


def _ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Rank 1 for the best; equal values share the mean of their ranks; NaN is last."""
    keys = [
        math.inf if math.isnan(value) else (-value if higher_is_better else value)
        for value in values
    ]
    return [
        sum(other < key for other in keys) + (sum(other == key for other in keys) + 1) / 2
        for key in keys
    ]


def mean_ranks(rows: Sequence[Row]) -> dict[str, float]:
    """The rank of each method, averaged over the metrics.

    The methods are ranked by the mean of each metric, in its better direction, over the images
    that all of them have; 1 is best, and equal means share a rank.

    Args:
        rows: of `evaluate_set`.

    Returns:
        Method to mean rank, best first.

    Raises:
        ValueError: if no image was measured for all methods.
    """
    grouped = _by_method(rows)
    if not grouped:
        return {}
    shared = set.intersection(*({row["image"] for row in mine} for mine in grouped.values()))
    if not shared:
        raise ValueError(
            f"no image has a result of every method ({', '.join(grouped)}); ranks need one"
        )
    names = metric_names(rows)
    means = mean_rows([row for row in rows if row["image"] in shared])
    ranks = [_ranks([row[name] for row in means], METRICS[name].higher_is_better) for name in names]
    result = {
        row["method"]: sum(rank[index] for rank in ranks) / len(ranks)
        for index, row in enumerate(means)
    }
    return dict(sorted(result.items(), key=lambda item: item[1]))


def format_table(rows: Sequence[Row]) -> str:
    """A text table of the means: one line per method, best mean rank first.

    The head gives unit and better direction of each metric, the best value has a star.

    Args:
        rows: of `evaluate_set`.
    """
    names = metric_names(rows)
    means = {row["method"]: row for row in mean_rows(rows)}
    counts = {method: len(mine) for method, mine in _by_method(rows).items()}
    ranks = mean_ranks(rows)
    best = {
        name: (max if METRICS[name].higher_is_better else min)(row[name] for row in means.values())
        for name in names
    }
    head = ["method", "images", "mean rank ↓", *(METRICS[name].header for name in names)]
    body = [
        [
            method,
            str(counts[method]),
            f"{rank:.2f}",
            *(
                f"{means[method][name]:.4f}" + ("*" if means[method][name] == best[name] else " ")
                for name in names
            ),
        ]
        for method, rank in ranks.items()
    ]
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *body)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 if all results were measured, 1 if some were not, 2 if none could be."""
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.evaluation",
        description="Measure fused pictures against their sources: a table of every method.",
    )
    parser.add_argument(
        "set_dir", type=Path, help="folder with ir/, vi/ and any number of fused_METHOD/"
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write a row per method and image, and one with image=mean",
    )
    arguments = parser.parse_args(argv)
    problems: list[str] = []
    try:
        pairs = PairFolder(arguments.set_dir)
        rows = evaluate_set(pairs, on_problem=problems.append)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not rows:
        print("error: not one result could be measured", file=sys.stderr)
        return 2
    try:
        print(format_table(rows))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
    if arguments.csv:
        print(f"Wrote {write_rows(arguments.csv, with_means(rows))}")
    if problems:
        print(f"{len(problems)} problem(s), {len(rows)} result(s) measured", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
