"""Average precision as COCO defines it, with intervals over the pictures of a set.

Matching is pycocotools'. Its curves are drawn again here, because a bootstrap draws the pictures a
thousand times; a test holds that both give the same numbers.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ldf_utils.detection.boxes import CLASSES, Boxes

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas of boxes in square pixels, as COCO divides them."""
MOST = 100  # detections of a picture that count

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """The detections of one class, best score first, and whether they hit a box.

    Attributes:
        image: ``(D,)`` place of the picture of each detection.
        hit: ``(T, D)`` whether it is matched to a box at each of the T `THRESHOLDS`.
        counts: ``(T, D)`` whether it counts at all; one on an ignored box does not.
        truth: ``(I,)`` boxes that count in each picture.
    """

    image: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Precision:
    """Average precision with its interval.

    Attributes:
        ap50: at an overlap of 0.5; NaN where there is no box.
        ap: mean over overlaps of 0.5 to 0.95 in steps of 0.05.
        ap50_interval: lower and upper bound of ``ap50``.
        interval: the same of ``ap``.
        boxes: that count.
    """

    ap50: float
    ap: float
    ap50_interval: tuple[float, float]
    interval: tuple[float, float]
    boxes: int


def match(
    truth: Mapping[str, Boxes], found: Mapping[str, Boxes], sizes: Sequence[str] = ("all",)
) -> dict[tuple[str, str], Matches]:
    """Match detections to labels, picture by picture.

    A detection hits the free box of its class that it overlaps most, if by more than the
    threshold; detections are served in the order of their scores.

    Args:
        truth: labels of each picture.
        found: detections of the same pictures.
        sizes: names of `SIZES`; boxes of another size are ignored.

    Returns:
        ``(class, size)`` to the matches, in the order of the pictures of ``truth``.

    Raises:
        ValueError: if a picture was labeled and not searched, or there is none.

    Source: Lin et al., Microsoft COCO, arXiv:1405.0312, and the code of its evaluation.
    """
    images = list(truth)
    if not images or (missing := [name for name in images if name not in found]):
        raise ValueError(f"no detections for {missing[0] if images else 'any picture'}")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports every step
        labels = _coco([truth[name] for name in images])
        results = _coco([found[name] for name in images], detections=True)
        evaluation = COCOeval(labels, results, "bbox")
        evaluation.params.imgIds = list(range(len(images)))
        evaluation.params.catIds = list(range(len(CLASSES)))
        evaluation.params.areaRng = [list(SIZES[name]) for name in sizes]
        evaluation.params.areaRngLbl = list(sizes)
        evaluation.params.iouThrs = THRESHOLDS
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
    of_images = iter(evaluation.evalImgs)
    return {
        (name, size): _gather([next(of_images) for _ in images])
        for name in CLASSES
        for size in sizes
    }


def _coco(pictures: Sequence[Boxes], detections: bool = False) -> COCO:
    """Bring boxes to the form of pycocotools."""
    annotations: list[dict[str, Any]] = []
    for place, boxes in enumerate(pictures):
        for k in range(len(boxes)):
            x0, y0, x1, y1 = (float(c) for c in boxes.corners[k])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": place,
                    "category_id": int(boxes.classes[k]),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": int(boxes.ignored[k]) if not detections else 0,
                    "score": float(boxes.scores[k]),
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": place} for place in range(len(pictures))],
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for place, name in enumerate(CLASSES)],
    }
    coco.createIndex()
    return coco


def _gather(of_images: Sequence[dict[str, Any] | None]) -> Matches:
    """Put the matches of the pictures into one list, best score first."""
    truth = np.array([0 if e is None else int((e["gtIgnore"] == 0).sum()) for e in of_images])
    there = [(place, e) for place, e in enumerate(of_images) if e is not None]
    empty = np.zeros((len(THRESHOLDS), 0), bool)
    scores = np.concatenate([np.zeros(0), *(np.asarray(e["dtScores"]) for _, e in there)])
    order = np.argsort(-scores, kind="mergesort")
    images = np.concatenate(
        [np.zeros(0, np.int64), *(np.full(len(e["dtScores"]), place) for place, e in there)]
    )
    hit = np.concatenate([empty, *(e["dtMatches"] > 0 for _, e in there)], axis=1)
    ignored = np.concatenate([empty, *(e["dtIgnore"] > 0 for _, e in there)], axis=1)
    return Matches(images[order], hit[:, order], ~ignored[:, order], truth)


def average_precision(matches: Matches, weights: npt.NDArray[np.integer] | None = None) -> Floats:
    """Compute the average precision at every threshold.

    Precision at a recall is the highest one at that recall or a higher one; the average is over
    101 recalls from 0 to 1.

    Args:
        matches: of one class and size.
        weights: ``(I,)`` how often each picture counts; once for None.

    Returns:
        ``(T,)`` in [0, 1], NaN if no box counts.

    Example:
        >>> truth = {"a": Boxes.of([((0, 0, 10, 10), "person")])}
        >>> average_precision(match(truth, truth)["person", "all"])[0].item()
        1.0
    """
    weights = np.ones(len(matches.truth), np.int64) if weights is None else weights
    boxes = int(weights @ matches.truth)
    if not boxes:
        return np.full(len(THRESHOLDS), np.nan)
    each = weights[matches.image] * matches.counts
    right = np.cumsum(each * matches.hit, axis=1)
    wrong = np.cumsum(each * ~matches.hit, axis=1)
    precision = right / np.maximum(right + wrong, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros(len(THRESHOLDS))
    for t, recall in enumerate(right / boxes):
        places = np.searchsorted(recall, RECALLS, side="left")
        reached = places < len(recall)
        result[t] = best[t, places[reached]].sum() / len(RECALLS)
    return result


def curve(matches: Matches, threshold: float = 0.5) -> tuple[Floats, Floats]:
    """Compute recall and precision after each detection, best score first, at one overlap."""
    t = int(np.argmin(np.abs(THRESHOLDS - threshold)))
    counted = matches.counts[t]
    hits = matches.hit[t][counted]
    right = np.cumsum(hits)
    return right / max(1, int(matches.truth.sum())), right / np.arange(1, len(hits) + 1)


def draw_weights(images: int, draws: int = 1000, seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw how often each picture counts in samples with replacement, ``(draws, images)``."""
    generator = np.random.default_rng(seed)
    drawn: npt.NDArray[np.int64] = generator.multinomial(
        images, np.full(images, 1 / images), size=draws
    )
    return drawn


def samples(matches: Matches, weights: npt.NDArray[np.int64]) -> Floats:
    """Compute ``(draws, 2)``: AP at 0.5 and the mean over all thresholds, in each draw."""
    drawn = [average_precision(matches, row) for row in weights]
    return np.array([[each[0], each.mean()] for each in drawn])


def _bounds(values: Floats, level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return (float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def precision(
    matches: Matches, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Precision:
    """Compute average precision with a bootstrap interval over the pictures.

    Args:
        matches: of one class and size.
        draws: how often the pictures are drawn with replacement.
        seed: of the draws; the same draws for all methods on the same pictures.
        level: share of the draws that an interval holds.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    values = average_precision(matches)
    drawn = samples(matches, draw_weights(len(matches.truth), draws, seed))
    return Precision(
        float(values[0]),
        float(values.mean()),
        _bounds(drawn[:, 0], level),
        _bounds(drawn[:, 1], level),
        int(matches.truth.sum()),
    )


@dataclass(frozen=True)
class Difference:
    """AP at 0.5 of one method minus that of another, on the same pictures.

    Attributes:
        value: the difference.
        low: its lower bound.
        high: its upper bound.
    """

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the bounds leave out 0: the difference is beyond chance on these pictures."""
        return self.low > 0 or self.high < 0


def difference(
    first: Matches,
    second: Matches,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    drawn: tuple[Floats, Floats] | None = None,
) -> Difference:
    """Compute by how much AP at 0.5 of ``first`` exceeds that of ``second``.

    Each draw takes the same pictures for both, so that a picture that is hard for both does not
    blur the difference.

    Args:
        first: of one method.
        second: of another.
        draws: how often the pictures are drawn with replacement.
        seed: of the draws.
        level: share of the draws that the bounds hold.
        drawn: `samples` of both for the same weights, where they are known already.

    Raises:
        ValueError: if the two are not of the same labels.
    """
    if not np.array_equal(first.truth, second.truth):
        raise ValueError("both methods must be measured on the same labels of the same pictures")
    if drawn is None:
        weights = draw_weights(len(first.truth), draws, seed)
        drawn = samples(first, weights), samples(second, weights)
    value = average_precision(first)[0] - average_precision(second)[0]
    return Difference(float(value), *_bounds(drawn[0][:, 0] - drawn[1][:, 0], level))
