"""Evaluation: folders of fused pictures to tables, means, ranks, and how sure they are.

``python -m ldf_utils.evaluation SET_DIR`` measures every ``fused_METHOD/`` of a set against its
``ir/`` and ``vi/``: any published results take part once they lie in such a folder, under the
stems of the pairs. Where the right fusion is known (``--truth``), the results are judged by it too,
and so are the metrics: `metric_agreement`. Under ``torchrun`` the pairs are split over its
processes, and the first one reports for all.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import html
import inspect
import io
import json
import math
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from ldf_utils import metrics as metrics_package
from ldf_utils.data.files import write_json, write_rows, write_text
from ldf_utils.data.images import IMAGE_SUFFIXES, ImageError, luminance, read_image
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.metrics import (
    METRICS,
    TRUTH,
    Metric,
    as_uint8,
    measure,
    measure_against_oracle,
    select,
)
from ldf_utils.training.distributed import ProcessError, Team, join_team

MEAN = "mean"
ORACLE = "oracle"  # the method whose results are the truth
_COLUMNS = METRICS | TRUTH

Row = dict[str, Any]
Fuser = Callable[[Pair], torch.Tensor]


class EvaluationWarning(UserWarning):
    """A result that could not be measured; the others were."""


def _warn(problem: str) -> None:
    warnings.warn(problem, EvaluationWarning, stacklevel=3)


def _of_pair(path: Path, pair: Pair) -> torch.Tensor:
    """The luminance of a picture that belongs to a pair, checked to have its size."""
    picture = luminance(read_image(path))
    if picture.shape != pair.infrared.shape:
        (height, width), (h, w) = pair.size, picture.shape[-2:]
        raise ImageError(
            f"{path} is {w} x {h} pixels, its sources are {width} x {height}; metrics compare "
            "pixel by pixel. Save the result at the size of the sources"
        )
    return picture


def _fused_from_file(pairs: PairFolder, method: str, pair: Pair) -> torch.Tensor:
    path = pairs.fused_path(method, pair.name)
    folder = pairs.folder / f"fused_{method}"
    if path is None:
        raise ImageError(
            f"{folder}: no result for the pair {pair.name!r}; expected {pair.name}.png (or another "
            "picture of that stem). Fuse this pair with the method, or leave the method out"
        )
    return _of_pair(path, pair)


def _truth_of(pairs: PairFolder, pair: Pair) -> list[torch.Tensor]:
    """The oracle and the salient map of a pair, ``(1, H, W)`` each."""
    oracle = pairs.fused_path(ORACLE, pair.name)
    salient = pairs.folder / "salient" / f"{pair.name}.png"
    for path, what in ((oracle, f"fused_{ORACLE}"), (salient, "salient")):
        if path is None or not path.is_file():
            raise ImageError(
                f"{pairs.folder / what}: no picture for the pair {pair.name!r}; expected "
                f"{pair.name}.png. Write the set again with python -m ldf_utils.data.scenes"
            )
    return [_of_pair(path, pair) for path in (oracle, salient)]


def _check_truth(pairs: PairFolder) -> None:
    """Raise ValueError if a set has no oracle or no salient maps."""
    missing = [x for x in (f"fused_{ORACLE}", "salient") if not (pairs.folder / x).is_dir()]
    if missing:
        raise ValueError(
            f"{pairs.folder}: no folder {' and no folder '.join(missing)}; the truth is known of "
            "generated sets only. Write one with python -m ldf_utils.data.scenes --output DIR"
        )


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


@functools.cache
def _definitions() -> bytes:
    """A fingerprint of the code of the metrics: a changed definition makes old values void."""
    digest = hashlib.sha256()
    for path in sorted(Path(metrics_package.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


class _Cache:
    """Values of metrics by the content of the three pictures, one small file each."""

    def __init__(self, folder: str | os.PathLike | None):
        self.folder = None if folder is None else Path(folder)

    def _path(self, triple: Sequence[torch.Tensor]) -> Path:
        digest = hashlib.sha256(_definitions())
        for image in triple:
            digest.update(repr(tuple(image.shape)).encode())
            digest.update(image.contiguous().numpy().tobytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def values(
        self,
        function: Callable[..., dict[str, torch.Tensor]],
        triple: Sequence[torch.Tensor],
        names: Sequence[str],
    ) -> dict[str, float]:
        """The values of these names by a function, from the folder where they are."""
        if self.folder is None:
            return {name: value.item() for name, value in function(*triple, names).items()}
        path = self._path(triple)
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            known = {name: float(value) for name, value in known.items()}
        except (OSError, ValueError, AttributeError, TypeError):  # absent or damaged: measure again
            known = {}
        missing = [name for name in names if name not in known]
        if missing:
            known |= {name: value.item() for name, value in function(*triple, missing).items()}
            write_json(path, {name: repr(value) for name, value in known.items()})
        return {name: known[name] for name in names}


@dataclass(frozen=True)
class _Task:
    """What is to be measured, the same for each pair."""

    pairs: PairFolder
    methods: Sequence[str]
    extra: Mapping[str, Fuser]
    chosen: Sequence[Metric]
    cache: _Cache
    lock: threading.Lock  # one function of `extra` at a time: they may hold a network
    truth: bool = False  # whether to judge by the truth, too

    def run(self, index: int) -> tuple[dict[str, Row], list[str]]:
        """Rows by method of one pair, and what went wrong."""
        try:
            pair = self.pairs[index]
        except ImageError as error:
            name = self.pairs.names[index]
            return {}, [f"the pair {name!r} is left out for every method: {error}"]
        rows, problems = {}, []
        small = [metric for metric in self.chosen if metric.smallest > min(pair.size)]
        if small:
            height, width = pair.size
            needs = ", ".join(f"{m.name} (from {m.smallest} x {m.smallest})" for m in small)
            problems.append(
                f"the pair {pair.name!r} is {width} x {height} pixels, too small for {needs}"
            )
        fitting = [metric.name for metric in self.chosen if metric not in small]
        sources = [as_uint8(image[None]) for image in (pair.infrared, pair.luminance)]
        columns, known = [metric.name for metric in self.chosen], None
        if self.truth:
            columns += TRUTH
            try:
                known = [as_uint8(image[None]) for image in _truth_of(self.pairs, pair)]
            except ImageError as error:
                problems.append(f"the pair {pair.name!r} is not judged by the truth: {error}")
        for method in (*self.methods, *self.extra):
            try:
                if method in self.extra:
                    with self.lock:
                        fused = _fused_by_function(method, self.extra[method], pair)
                else:
                    fused = _fused_from_file(self.pairs, method, pair)
                shown = as_uint8(fused[None])
                values = self.cache.values(measure, [shown, *sources], fitting)
                if known is not None:
                    values |= self.cache.values(
                        measure_against_oracle, [shown, *known], list(TRUTH)
                    )
            except ValueError as error:  # ImageError is one
                problems.append(f"{method}, pair {pair.name!r}: {error}")
                continue
            rows[method] = {"method": method, "image": pair.name} | {
                name: values.get(name, math.nan) for name in columns
            }
        return rows, problems


def _in_order(function: Callable[[int], Any], count: int, jobs: int) -> Iterator[Any]:
    """``function`` of 0..count-1 in ``jobs`` threads, in order, few results waiting at a time."""
    if jobs == 1:
        yield from map(function, range(count))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # each job has a core of its own
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting: deque[Future] = deque()
        for index in range(count):
            waiting.append(pool.submit(function, index))
            if len(waiting) > jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def evaluate_set(
    pairs: PairFolder,
    methods: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
    extra: Mapping[str, Fuser] | None = None,
    *,
    truth: bool = False,
    jobs: int = 1,
    cache: str | os.PathLike | None = None,
    on_problem: Callable[[str], None] = _warn,
    progress: bool = True,
) -> list[Row]:
    """Measure the results of methods on the pairs of a set, ``jobs`` pairs in memory at a time.

    Args:
        pairs: the set.
        methods: METHODs of ``fused_METHOD/`` folders; all there are for None.
        metrics: names in `ldf_utils.metrics.METRICS`; the usual nine for None.
        extra: method name to a function of a pair that returns fused luminance ``(1, H, W)`` in
            [0, 1], for methods that need no files. Its pictures are rounded to 8 bits first, as
            if they had been saved. One is called at a time, whatever ``jobs`` is.
        truth: whether to judge by the truth, too: columns of `ldf_utils.metrics.TRUTH` against
            ``fused_oracle/`` with the maps in ``salient/``, as
            `ldf_utils.data.scenes.write_set` writes.
        jobs: pairs that are measured at the same time, each in a thread with one core.
        cache: a folder of values by the content of the pictures: what is there is not measured
            again, so that a run that was stopped goes on where it was. None keeps nothing.
        on_problem: called with one sentence for each result that is missing, unreadable or of
            the wrong size; the rest is measured. By default an `EvaluationWarning` is issued.
        progress: whether to show a progress bar.

    Returns:
        One row per method and image, ``{"method", "image", *metrics}``, ordered by method (in the
        order of ``methods``, then of ``extra``) and image. A metric that needs a larger picture
        is NaN, and reported. Scores against the truth are NaN where a scene has nothing to judge.

    Raises:
        ValueError: for an unknown metric or method, a name in both ``methods`` and ``extra``,
            ``jobs`` under 1, or a truth that the set has not.
    """
    if jobs < 1:
        raise ValueError(f"jobs is at least 1, found {jobs}")
    chosen = select(metrics)
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
    if truth:
        _check_truth(pairs)
    task = _Task(pairs, methods, extra, chosen, _Cache(cache), threading.Lock(), truth)
    rows: dict[str, list[Row]] = {method: [] for method in (*methods, *extra)}
    results = _in_order(task.run, len(pairs), jobs)
    description = f"Measuring {pairs.name}"
    for found, problems in tqdm(results, description, len(pairs), disable=not progress):
        for problem in problems:
            on_problem(problem)
        for method, row in found.items():
            rows[method].append(row)
    return [row for list_of_rows in rows.values() for row in list_of_rows]


def metric_names(rows: Sequence[Row]) -> list[str]:
    """The metrics without a reference that the rows hold, in their order."""
    return [key for key in rows[0] if key in METRICS] if rows else []


def truth_names(rows: Sequence[Row]) -> list[str]:
    """The scores against the truth that the rows hold, in their order."""
    return [key for key in rows[0] if key in TRUTH] if rows else []


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
    names = [*metric_names(rows), *truth_names(rows)]
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


def mean_ranks(rows: Sequence[Row], names: Iterable[str] | None = None) -> dict[str, float]:
    """The rank of each method, averaged over the metrics.

    The methods are ranked by the mean of each metric, in its better direction, over the images
    that all of them have; 1 is best, and equal means share a rank.

    Args:
        rows: of `evaluate_set`.
        names: columns to rank by; all metrics without a reference for None.

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
    names = metric_names(rows) if names is None else list(names)
    means = mean_rows([row for row in rows if row["image"] in shared])
    ranks = [
        _ranks([row[name] for row in means], _COLUMNS[name].higher_is_better) for name in names
    ]
    result = {
        row["method"]: sum(rank[index] for rank in ranks) / len(ranks)
        for index, row in enumerate(means)
    }
    return dict(sorted(result.items(), key=lambda item: item[1]))


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds between which repeated draws of images put it."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class RankDifference:
    """By how much the mean rank of one method is ahead of that of another.

    Attributes:
        better: the method with the smaller mean rank.
        worse: the other.
        difference: mean rank of ``worse`` minus that of ``better``, with its bounds.
    """

    better: str
    worse: str
    difference: Interval

    @property
    def clear(self) -> bool:
        """Whether the bounds leave out 0: the methods can be told apart on these images."""
        return self.difference.low > 0


@dataclass(frozen=True)
class RankComparison:
    """Mean ranks with their bounds, best first, and the difference of each two methods."""

    ranks: dict[str, Interval]
    differences: list[RankDifference]

    def warnings(self) -> list[str]:
        """One sentence per method that some methods behind it can't be told apart from."""
        lines = []
        for method in self.ranks:
            behind = [d.worse for d in self.differences if d.better == method and not d.clear]
            if behind:
                lines.append(f"{method} can't be told apart from {', '.join(behind)}")
        return lines


def _draws(images: int, draws: int, seed: int) -> np.ndarray:
    """Shares ``(draws, images)`` of each image in samples drawn with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=draws) / images


def _interval(mean: float, samples: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean), float(low), float(high))


def mean_intervals(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """The mean of each metric with a bootstrap confidence interval.

    The images of a method are drawn again with replacement, and the interval holds the share
    ``level`` of the means (percentile bootstrap). It says how far the mean depends on which images
    the set happens to have; with a handful of images it is too narrow.

    Args:
        rows: of `evaluate_set`.
        level: share of the draws that the interval holds.
        draws: how often images are drawn.
        seed: of the draws.

    Returns:
        Method to metric to its interval. NaN bounds where a value is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    names = [*metric_names(rows), *truth_names(rows)]
    result: dict[str, dict[str, Interval]] = {}
    for method, mine in _by_method(rows).items():
        result[method] = {}
        for name in names:
            values = np.array([row[name] for row in mine if not math.isnan(row[name])])
            mean = _mean(row[name] for row in mine)
            if len(values) and np.isfinite(values).all():
                samples = _draws(len(values), draws, seed) @ values
                result[method][name] = _interval(mean, samples, level)
            else:
                result[method][name] = Interval(mean, math.nan, math.nan)
    return result


def compare_ranks(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> RankComparison:
    """Mean ranks with bootstrap confidence intervals, and of their differences.

    In each draw the same images, those that all methods have, are drawn for every method, so that
    what makes an image hard for all of them does not blur the difference of two.

    Args:
        rows: of `evaluate_set`.
        level: share of the draws that an interval holds.
        draws: how often images are drawn.
        seed: of the draws.

    Raises:
        ValueError: as `mean_ranks`.
    """
    ranks = mean_ranks(rows)
    grouped = _by_method(rows)
    by_image = {m: {row["image"]: row for row in mine} for m, mine in grouped.items()}
    shared = [image for image in by_image[next(iter(ranks))] if _everywhere(image, by_image)]
    names = metric_names(rows)
    values = np.array(
        [[[by_image[m][image][name] for name in names] for image in shared] for m in ranks]
    )
    finite = np.isfinite(values).all(axis=(0, 1))
    signs = np.array([-1.0 if METRICS[name].higher_is_better else 1.0 for name in names])
    values = (values * signs)[:, :, finite]
    if not finite.any():
        raise ValueError("no metric has finite values for every method; ranks need one")
    means = np.einsum("di,mik->dmk", _draws(len(shared), draws, seed), values)
    behind = (means[:, None] < means[:, :, None]).sum(axis=2)
    # Equal up to rounding counts as equal: sums in another order differ in the last digit.
    level_with = np.isclose(means[:, None], means[:, :, None], rtol=1e-12, atol=0).sum(axis=2)
    sampled = (behind + (level_with + 1) / 2).mean(axis=2)
    order = list(ranks)
    differences = [
        RankDifference(
            order[i],
            order[j],
            _interval(ranks[order[j]] - ranks[order[i]], sampled[:, j] - sampled[:, i], level),
        )
        for i in range(len(order))
        for j in range(i + 1, len(order))
    ]
    return RankComparison(
        {m: _interval(ranks[m], sampled[:, index], level) for index, m in enumerate(order)},
        differences,
    )


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation with shared ranks; 0 where one of them has no order."""
    ranks = np.array([_ranks(values, higher_is_better=False) for values in (first, second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = math.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float((ranks[0] * ranks[1]).sum() / scale) if scale else 0.0


def metric_agreement(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """How far each metric orders the methods as the truth does, on sets that have one.

    For each image the methods are ranked by every score against the truth, and the ranks averaged
    (a score that is NaN there is left out): that is the true order. Spearman's rank correlation
    of it with the order by a metric, in the direction that papers read it in, is 1 if both agree,
    0 if they have nothing to do with each other, -1 if the metric has it upside down. The oracle
    itself is no method here. The mean over the images has a bootstrap interval over them.

    Args:
        rows: of `evaluate_set` with ``truth=True``, or made of it: three methods or more.
        level: share of the draws that an interval holds.
        draws: how often images are drawn.
        seed: of the draws.

    Returns:
        Metric to its mean rank correlation, best first.

    Raises:
        ValueError: if the rows have no score against the truth, or no image has been judged for
            three methods.

    Source: Spearman, DOI 10.2307/1412159.
    """
    scores = truth_names(rows)
    if not scores:
        raise ValueError("the rows have no score against the truth; measure them with truth=True")
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        if row["image"] != MEAN and row["method"] != ORACLE:
            by_image.setdefault(row["image"], []).append(row)
    found: dict[str, list[float]] = {name: [] for name in metric_names(rows)}
    for mine in by_image.values():
        judged = [name for name in scores if not any(math.isnan(row[name]) for row in mine)]
        if len(mine) < 3 or not judged:
            continue
        ranks = [
            _ranks([row[name] for row in mine], TRUTH[name].higher_is_better) for name in judged
        ]
        truth = [sum(rank) / len(rank) for rank in zip(*ranks, strict=True)]
        for name, values in found.items():
            own = _ranks([row[name] for row in mine], METRICS[name].higher_is_better)
            values.append(_spearman(own, truth))
    if not all(found.values()):
        raise ValueError("no image was judged by the truth for three methods or more")
    intervals = {
        name: _interval(_mean(values), _draws(len(values), draws, seed) @ np.array(values), level)
        for name, values in found.items()
    }
    return dict(sorted(intervals.items(), key=lambda item: -item[1].mean))


def format_agreement(agreement: Mapping[str, Interval]) -> str:
    """A text table of `metric_agreement`, one line per metric, best first."""
    lines = ["metric        rank correlation with the truth, 95 % interval"]
    return "\n".join(
        [
            *lines,
            *(
                f"{name:<14}{x.mean:+.2f}  [{x.low:+.2f}, {x.high:+.2f}]"
                for name, x in agreement.items()
            ),
        ]
    )


def _everywhere(image: str, by_image: Mapping[str, Mapping[str, Row]]) -> bool:
    return all(image in mine for mine in by_image.values())


def _best(rows: Sequence[Row]) -> dict[str, float]:
    """The best mean of each metric and of each score against the truth."""
    means = mean_rows(rows)
    return {
        name: (max if _COLUMNS[name].higher_is_better else min)(
            (row[name] for row in means if not math.isnan(row[name])), default=math.nan
        )
        for name in [*metric_names(rows), *truth_names(rows)]
    }


def format_table(rows: Sequence[Row], names: Iterable[str] | None = None) -> str:
    """A text table of the means: one line per method, best mean rank first.

    The head gives unit and better direction of each metric, the best value has a star.

    Args:
        rows: of `evaluate_set`.
        names: the columns to show and to rank by; all metrics without a reference for None.
    """
    names = metric_names(rows) if names is None else list(names)
    means = {row["method"]: row for row in mean_rows(rows)}
    counts = {method: len(mine) for method, mine in _by_method(rows).items()}
    ranks = mean_ranks(rows, names)
    best = _best(rows)
    head = ["method", "images", "mean rank ↓", *(_COLUMNS[name].header for name in names)]
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


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _picture(levels: torch.Tensor, width: int, smooth: bool = True) -> str:
    """A ``(1, H, W)`` uint8 picture at a width of pixels, as the address of an inlined image."""
    picture = Image.fromarray(levels[0].numpy())
    size = (width, max(1, round(picture.height * width / picture.width)))
    return _png(picture.resize(size, Image.Resampling.BICUBIC if smooth else 0))


def _detail(infrared: torch.Tensor, visible: torch.Tensor) -> tuple[slice, slice]:
    """The part, a quarter of each side, where the sources have the most structure together."""
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
    """Mean ranks with their intervals, as an inlined image."""
    methods = list(comparison.ranks)
    figure = Figure(figsize=(7, 0.8 + 0.35 * len(methods)), layout="constrained")
    axes = figure.add_subplot()
    for place, interval in enumerate(comparison.ranks.values()):
        axes.plot([interval.low, interval.high], [place, place], color="#7a8ba0", linewidth=3)
        axes.plot(interval.mean, place, "o", color="#1f3b5c")
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.margins(x=0.05)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("mean rank over the metrics (1 is best), 95 % of draws of images")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _html_row(cells: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _html_means(rows: Sequence[Row], ranks: Mapping[str, float], names: Sequence[str]) -> str:
    intervals = mean_intervals(rows)
    best = _best(rows)
    head = ["method", "images", "mean rank ↓", *(_COLUMNS[name].header for name in names)]
    lines = [_html_row(map(html.escape, head), "th")]
    for method, rank in ranks.items():
        cells = [html.escape(method), str(len(_by_method(rows)[method])), f"{rank:.2f}"]
        for name in names:
            interval = intervals[method][name]
            mean = f"{interval.mean:.4f}"
            mean = f"<b>{mean}</b>" if interval.mean == best[name] else mean
            cells.append(f"{mean}<br><small>{interval.low:.4f} to {interval.high:.4f}</small>")
        lines.append(_html_row(cells))
    return "<table>" + "\n".join(lines) + "</table>"


def _html_truth(rows: Sequence[Row]) -> Iterator[str]:
    """The scores against the truth, and which metrics agree with it."""
    names = truth_names(rows)
    yield "<h2>Against the truth</h2><p>Scores against the known right fusion.</p>"
    yield _html_means(rows, mean_ranks(rows, names), names)
    try:
        agreement = metric_agreement(rows)
    except ValueError as error:
        yield f"<p>{html.escape(str(error))}</p>"
        return
    yield (
        "<h3>Which metrics agree with it</h3><p>Rank correlation over the methods, mean over the "
        "images with 95 % bootstrap interval: 1 is the true order, 0 none, -1 upside down.</p>"
    )
    lines = [_html_row(("metric", "rank correlation", "interval"), "th")]
    for name, x in agreement.items():
        cells = html.escape(name), f"{x.mean:+.2f}", f"{x.low:+.2f} to {x.high:+.2f}"
        lines.append(_html_row(cells))
    yield "<table>" + "\n".join(lines) + "</table>"


def _html_pictures(
    pairs: PairFolder, methods: Sequence[str], extra: Mapping[str, Fuser], count: int
) -> Iterator[str]:
    """The pictures of some pairs side by side, each with an enlarged detail."""
    places = sorted({round(x) for x in np.linspace(0, len(pairs) - 1, min(count, len(pairs)))})
    for index in places:
        try:
            pair = pairs[index]
        except ImageError as error:
            yield f"<p>{html.escape(str(error))}</p>"
            continue
        shown = {"infrared": pair.infrared, "visible": pair.luminance}
        for method in methods:
            try:
                if method in extra:
                    shown[method] = _fused_by_function(method, extra[method], pair)
                else:
                    shown[method] = _fused_from_file(pairs, method, pair)
            except ValueError:  # reported where it was measured
                continue
        levels = {name: as_uint8(image[None])[0] for name, image in shown.items()}
        rows, columns = _detail(levels["infrared"], levels["visible"])
        yield f"<h3>{html.escape(pair.name)}</h3><div class='pictures'>"
        for name, image in levels.items():
            label = html.escape(name)
            whole = f"{label} picture of {html.escape(pair.name)}"
            yield (
                f"<figure><img src='{_picture(image, 260)}' alt='{whole}'>"
                f"<img src='{_picture(image[:, rows, columns], 260, smooth=False)}' "
                f"alt='enlarged detail of the {whole}'><figcaption>{label}</figcaption></figure>"
            )
        yield "</div>"


def _html_definitions(names: Iterable[str]) -> str:
    lines = [_html_row(("metric", "definition", "in full", "source"), "th")]
    for name in names:
        metric = _COLUMNS[name]
        text = inspect.getdoc(metric.function).split("Args:")[0].strip()
        text = html.escape(text).replace("\n\n", "<br><br>")
        source = html.escape(metric.source)
        if source.startswith("DOI "):
            doi = source.removeprefix("DOI ")
            source = f"<a href='https://doi.org/{doi}'>{doi}</a>"
        lines.append(
            _html_row((html.escape(metric.header), html.escape(metric.definition), text, source))
        )
    return "<table>" + "\n".join(lines) + "</table>"


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border-bottom: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }
small { color: #555; white-space: nowrap }
.pictures { display: flex; flex-wrap: wrap; gap: .6em }
figure { margin: 0; width: 260px } img { display: block; margin-bottom: 4px; max-width: 100% }
"""


def write_report(
    path: str | os.PathLike,
    pairs: PairFolder,
    rows: Sequence[Row],
    extra: Mapping[str, Fuser] | None = None,
    *,
    problems: Sequence[str] = (),
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
        examples: how many pairs to show, spread over the set.

    Raises:
        ValueError: as `compare_ranks`.
    """
    comparison = compare_ranks(rows)
    methods = list(comparison.ranks)
    title = html.escape(f"Fusion of {pairs.name}: {len(pairs)} pairs, {len(methods)} methods")
    alone = comparison.warnings() or ["Each two methods can be told apart on these images."]
    ranking = ", ".join(f"{method} {rank.mean:.2f}" for method, rank in comparison.ranks.items())
    parts = [
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
        "<h2>Means</h2><p>Bold is the best of a column, ↑ higher or ↓ lower is better. Below each "
        "mean: 95 % bootstrap confidence interval over the images.</p>",
        _html_means(rows, {m: x.mean for m, x in comparison.ranks.items()}, metric_names(rows)),
        "<h2>Mean ranks</h2>",
        f"<img src='{_rank_plot(comparison)}' alt='mean ranks: {html.escape(ranking)}'>",
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in alone) + "</ul>",
        *(_html_truth(rows) if truth_names(rows) else ()),
        "<h2>Pictures</h2><p>Luminance; below each the part where the sources have most structure."
        "</p>",
        *_html_pictures(pairs, methods, extra or {}, examples),
        "<h2>Definitions</h2>",
        _html_definitions([*metric_names(rows), *truth_names(rows)]),
    ]
    if problems:
        items = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        parts.append(f"<h2>Not measured</h2><ul>{items}</ul>")
    return write_text(path, "\n".join([*parts, "</body></html>"]))


def open_set(folder: str | os.PathLike, on_problem: Callable[[str], None] = _warn) -> PairFolder:
    """Open a set for evaluation: pictures without a partner are reported and left out.

    Raises:
        ImageError: as `PairFolder`, for all else, and if no pair is left.
    """
    try:
        return PairFolder(folder)
    except ImageError as error:
        sides = [Path(folder) / side for side in ("ir", "vi")]
        if not all(side.is_dir() for side in sides):
            raise
        pictures = [
            [
                path
                for path in sorted(side.iterdir())
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            ]
            for side in sides
        ]
        by_stem = [{path.stem: path for path in paths} for paths in pictures]
        shared = sorted(set(by_stem[0]) & set(by_stem[1]))
        if not shared or any(
            len(paths) != len(stems) for paths, stems in zip(pictures, by_stem, strict=True)
        ):
            raise
        on_problem(str(error))
        return _Matched(folder, [(stem, by_stem[0][stem], by_stem[1][stem]) for stem in shared])


class _Matched(PairFolder):
    """A set of which the pairs are known already."""

    def __init__(self, folder: str | os.PathLike, files: list[tuple[str, Path, Path]]):
        self.folder = Path(folder)
        self.files = files


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ldf_utils.evaluation",
        description="Measure fused pictures against their sources: a table of every method.",
        epilog="Exit code 0: all was measured; 1: some results were not, they are named; 2: none.",
    )
    parser.add_argument(
        "set_dir", type=Path, help="folder with ir/, vi/ and any number of fused_METHOD/"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", help="these only (default: all there are)"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(METRICS)}, or all (default: {' '.join(m.name for m in select())})",
    )
    parser.add_argument(
        "--truth",
        action="store_true",
        help=f"judge by fused_{ORACLE}/ and salient/ too, which generated sets have, and say which "
        "metrics agree with the truth",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write a row per method and image, and one with image=mean",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with table, ranks and pictures"
    )
    parser.add_argument(
        "--jobs", type=int, default=_cores(), help="pairs at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs") / "evaluation_cache",
        metavar="DIR",
        help="keeps measured values by the content of the pictures (default: %(default)s)",
    )
    parser.add_argument("--no-cache", action="store_true", help="measure all again, keep nothing")
    return parser.parse_args(argv)


def _of_all(
    team: Team, rows: list[Row], problems: list[str], pairs: PairFolder
) -> tuple[list[Row], list[str]]:
    """What all processes measured, in the order in which one would have, and what went wrong."""
    parts = team.gather((rows, problems))
    methods = list(dict.fromkeys(row["method"] for mine, _ in parts for row in mine))
    order = {name: place for place, name in enumerate(pairs.names)}
    together = [row for mine, _ in parts for row in mine]
    together.sort(key=lambda row: (methods.index(row["method"]), order[row["image"]]))
    return together, list(dict.fromkeys(problem for _, theirs in parts for problem in theirs))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 if all results were measured, 1 if some were not, 2 if none could be."""
    arguments = _arguments(argv)
    problems: list[str] = []
    try:
        team = join_team("cpu")
        pairs = open_set(arguments.set_dir, problems.append)
        whole, pairs.files = pairs.files, team.share(pairs.files)
        rows = evaluate_set(
            pairs,
            arguments.methods,
            METRICS if arguments.metrics == ["all"] else arguments.metrics,
            truth=arguments.truth,
            jobs=arguments.jobs,
            cache=None if arguments.no_cache else arguments.cache,
            on_problem=problems.append,
            progress=team.rank == 0,
        )
        pairs.files = whole
        rows, problems = _of_all(team, rows, problems, pairs)
    except (ValueError, ProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if team.rank > 0:
        return 2 if not rows else 1 if problems else 0
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not rows:
        print("error: not one result could be measured", file=sys.stderr)
        return 2
    if arguments.csv:
        print(f"Wrote {write_rows(arguments.csv, with_means(rows))}")
    try:
        print(format_table(rows))
        for line in compare_ranks(rows).warnings():
            print(f"warning: {line} (95 % bootstrap interval of the rank difference)")
        if arguments.truth:
            print("\nAgainst the truth:")
            print(format_table(rows, truth_names(rows)))
            print("\n" + format_agreement(metric_agreement(rows)))
        if arguments.html:
            report = write_report(arguments.html, pairs, rows, problems=problems)
            print(f"Wrote {report}")
    except ValueError as error:
        problems.append(str(error))
        print(f"error: {error}", file=sys.stderr)
    if problems:
        print(f"{len(problems)} problem(s), {len(rows)} result(s) measured", file=sys.stderr)
    return 1 if problems else 0
