"""Ranking: means, ranks, which methods can be told apart, and which metrics follow the truth.

Rows are those of `ldf_utils.evaluation.evaluate_set`, or made as those: a dictionary per method and
image, with the keys ``method`` and ``image``, which may have any name, and a key per metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ldf_utils.evaluation.evaluate import ORACLE, Row
from ldf_utils.metrics import METRICS, TRUTH, Metric

MEAN = "mean"
COLUMNS: dict[str, Metric] = METRICS | TRUTH


def metric_names(rows: Sequence[Row]) -> list[str]:
    """List the metrics without a reference that the rows hold, in their order."""
    return [key for key in rows[0] if key in METRICS] if rows else []


def truth_names(rows: Sequence[Row]) -> list[str]:
    """List the scores against the truth that the rows hold, in their order."""
    return [key for key in rows[0] if key in TRUTH] if rows else []


def _all_names(rows: Sequence[Row]) -> list[str]:
    return [*metric_names(rows), *truth_names(rows)]


def _means(rows: Sequence[Row]) -> pd.DataFrame:
    """Compute the mean of each metric, a line per method in the order of the rows, without NaN."""
    grouped = pd.DataFrame(rows).groupby("method", sort=False)[_all_names(rows)]
    return grouped.agg(pd.Series.mean)


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """Average each metric over the images of each method.

    Args:
        rows: of `evaluate_set`.

    Returns:
        One row per method, ``{"method", "image": "mean", *metrics}``, in the order of ``rows``.
        A method that misses images is averaged over those it has, and a metric over the images
        that are large enough for it (NaN where none is).
    """
    if not rows:
        return []
    return [{"method": m, "image": MEAN} | dict(mean) for m, mean in _means(rows).iterrows()]


def with_means(rows: Sequence[Row]) -> list[Row]:
    """Put the mean row of each method after its images; it is called ``mean``, or ``(mean)`` and so
    on where an image has that name."""
    name, images = MEAN, {row["image"] for row in rows}
    while name in images:
        name = f"({name})"
    result: list[Row] = []
    for mean in mean_rows(rows):
        result += [row for row in rows if row["method"] == mean["method"]]
        result.append(mean | {"image": name})
    return result


def rank(values: pd.DataFrame, metrics: Mapping[str, Metric] = COLUMNS) -> pd.DataFrame:
    """Rank the lines of a table by each column: 1 is best, equals share a rank, NaN is last."""
    signs = [-1 if metrics[name].higher_is_better else 1 for name in values.columns]
    return (values * signs).rank(na_option="bottom")


def _shared_images(rows: Sequence[Row]) -> list[str]:
    """List the images that every method has, in the order of the first method."""
    by_method: dict[str, dict[str, None]] = {}
    for row in rows:
        by_method.setdefault(row["method"], {})[row["image"]] = None
    images = list(by_method.values())
    shared = [image for image in images[0] if all(image in others for others in images[1:])]
    if not shared:
        raise ValueError(
            f"no image has a result of every method ({', '.join(by_method)}); ranks need one"
        )
    return shared


def mean_ranks(rows: Sequence[Row], names: Iterable[str] | None = None) -> dict[str, float]:
    """Average the rank of each method over the metrics.

    The methods are ranked by the mean of each metric, in its better direction, over the images
    that all of them have; 1 is best, and equal means share a rank.

    Args:
        rows: of `evaluate_set`.
        names: columns to rank by; all metrics without a reference for None.

    Returns:
        Method to mean rank, best first.

    Raises:
        ValueError: if no image was measured for all methods.

    Example:
        >>> mean_ranks([{"method": "a", "image": "1", "EN": 5}, {"method": "b", "image": "1",
        ... "EN": 6}])
        {'b': 1.0, 'a': 2.0}
    """
    if not rows:
        return {}
    shared = set(_shared_images(rows))
    names = metric_names(rows) if names is None else list(names)
    means = _means([row for row in rows if row["image"] in shared])[names]
    ranks = rank(means).mean(axis=1).sort_values(kind="stable")
    return {str(method): float(value) for method, value in ranks.items()}


# --- the bootstrap --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds between which repeated draws of images put it."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _draws(images: int, draws: int, seed: int) -> np.ndarray:
    """Shares ``(draws, images)`` of each image in samples drawn with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=draws) / images


def _interval(mean: float, samples: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(mean), float(low), float(high))


def bootstrap_mean(
    values: Iterable[float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Compute the mean of values with a bootstrap confidence interval.

    The values are drawn again with replacement, and the interval holds the share ``level`` of
    the means (percentile bootstrap).

    Args:
        values: one per image; NaN is left out.
        level: share of the draws that the interval holds.
        draws: how often values are drawn.
        seed: of the draws.

    Returns:
        The interval; its bounds are NaN where a value is infinite, or there is none.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    array = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    mean = math.fsum(array) / len(array) if len(array) else math.nan
    if not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    return _interval(mean, _draws(len(array), draws, seed) @ array, level)


def mean_intervals(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Average each metric, with a bootstrap confidence interval over the images.

    It says how far the mean depends on which images the set happens to have; with a handful of
    images it is too narrow.

    Args:
        rows: of `evaluate_set`.
        level: as in `bootstrap_mean`.
        draws: the same.
        seed: the same.

    Returns:
        Method to metric to its interval. NaN bounds where a value is not finite.
    """
    result: dict[str, dict[str, Interval]] = {}
    for method, mine in pd.DataFrame(rows).groupby("method", sort=False) if rows else ():
        result[str(method)] = {
            name: bootstrap_mean(mine[name], level=level, draws=draws, seed=seed)
            for name in _all_names(rows)
        }
    return result


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
    """Mean ranks with their bounds, best first, and the difference of each two methods.

    Attributes:
        ranks: method to its mean rank.
        differences: of each two methods.
        left_out: one sentence per metric that the bounds do not count, because it is not finite.
    """

    ranks: dict[str, Interval]
    differences: list[RankDifference]
    left_out: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """One sentence per method that some methods behind it can't be told apart from, and one
        per metric that is left out."""
        lines = []
        for method in self.ranks:
            behind = [d.worse for d in self.differences if d.better == method and not d.clear]
            if behind:
                lines.append(f"{method} can't be told apart from {', '.join(behind)}")
        return lines + self.left_out


def compare_ranks(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> RankComparison:
    """Compute mean ranks with bootstrap confidence intervals, and those of their differences.

    In each draw the same images, those that all methods have, are drawn for every method, so that
    what makes an image hard for all of them does not blur the difference of two.

    Args:
        rows: of `evaluate_set`.
        level: as in `bootstrap_mean`.
        draws: the same.
        seed: the same.

    Raises:
        ValueError: as `mean_ranks`.
    """
    ranks = mean_ranks(rows)
    order, names, shared = list(ranks), metric_names(rows), _shared_images(rows)
    table = pd.DataFrame(rows).set_index(["method", "image"])[names]
    places = pd.MultiIndex.from_product([order, shared])
    values = table.reindex(places).to_numpy().reshape(len(order), len(shared), len(names))
    finite = np.isfinite(values).all(axis=1)  # by method and metric
    if not finite.all(axis=0).any():
        raise ValueError("no metric has finite values for every method; ranks need one")
    left_out = []
    for name, good in zip(names, finite.T, strict=True):
        if not good.all():
            bad = ", ".join(np.array(order)[~good])
            left_out.append(f"{name} has values that are not finite ({bad}): left out of intervals")
    signs = np.array([-1.0 if METRICS[name].higher_is_better else 1.0 for name in names])
    values = (values * signs)[:, :, finite.all(axis=0)]
    means = np.einsum("di,mik->dmk", _draws(len(shared), draws, seed), values)
    behind = (means[:, None] < means[:, :, None]).sum(axis=2)
    # Equal up to rounding counts as equal: sums in another order differ in the last digit.
    level_with = np.isclose(means[:, None], means[:, :, None], rtol=1e-12, atol=0).sum(axis=2)
    sampled = (behind + (level_with + 1) / 2).mean(axis=2)
    differences = [
        RankDifference(
            order[i],
            order[j],
            _interval(ranks[order[j]] - ranks[order[i]], sampled[:, j] - sampled[:, i], level),
        )
        for i in range(len(order))
        for j in range(i + 1, len(order))
    ]
    intervals = {m: _interval(ranks[m], sampled[:, k], level) for k, m in enumerate(order)}
    return RankComparison(intervals, differences, left_out)


def metric_agreement(
    rows: Sequence[Row], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Compute how far each metric orders the methods as the truth does, on sets that have one.

    For each image the methods are ranked by every score against the truth, and the ranks averaged
    (a score that is NaN there is left out): that is the true order. Spearman's rank correlation
    of it with the order by a metric, in the direction that papers read it in, is 1 if both agree,
    0 if they have nothing to do with each other, -1 if the metric has it upside down. The oracle
    itself is no method here. The mean over the images has a bootstrap interval over them.

    Args:
        rows: of `evaluate_set` with ``truth=True``, or made of it: three methods or more.
        level: as in `bootstrap_mean`.
        draws: the same.
        seed: the same.

    Returns:
        Metric to its mean rank correlation, best first.

    Raises:
        ValueError: if the rows have no score against the truth, or no image has been measured
            against it for three methods.

    Source: Spearman, DOI 10.2307/1412159.
    """
    scores, names = truth_names(rows), metric_names(rows)
    if not scores:
        raise ValueError("the rows have no score against the truth; measure them with truth=True")
    candidates = pd.DataFrame([row for row in rows if row["method"] != ORACLE])
    found = []
    for _, mine in candidates.groupby("image", sort=False):
        known = mine[scores].dropna(axis="columns")
        if len(mine) < 3 or known.empty:
            continue
        truth = rank(known).mean(axis="columns")
        # Without an order, of the truth or of a metric, there is no correlation: 0.
        found.append(rank(mine[names]).corrwith(truth.rank()).fillna(0.0))
    if not found:
        raise ValueError("no image was measured against the truth for three methods or more")
    intervals = {
        name: bootstrap_mean(values, level=level, draws=draws, seed=seed)
        for name, values in pd.DataFrame(found).items()
    }
    return dict(sorted(((str(n), x) for n, x in intervals.items()), key=lambda item: -item[1].mean))
