"""The checks of notebook 06; `ldf_utils.notebook.exercises` offers them with the others."""

from __future__ import annotations

from typing import Any

import torch

from ldf_utils.notebook.answers import Hints, exercise, expect_close, expect_no_mistake


@exercise("Overlap of two boxes")
def check_overlap(answer: Any) -> Hints:
    """Check ``function(first, second)``, corners ``(4,)`` each, to intersection over union."""
    first, second = torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 10, 25, 20])
    found = answer(first, second)
    mistakes = {
        "divide the intersection by the union, not by the sum of both areas": 50 / 400,
        "that is the intersection; divide it by the union": 50.0,
        "that is the share of the first box; divide by the union of both": 50 / 200,
    }
    yield expect_no_mistake(found, mistakes)
    yield expect_close("the overlap", found, 50 / 350)
    apart = torch.tensor([40.0, 40, 50, 60])
    yield expect_close(
        "the overlap of boxes that lie apart (a negative side counts as 0)",
        answer(first, apart),
        0.0,
    )
    yield expect_close("the overlap of a box with itself", answer(first, first), 1.0)


def _average_precision(
    scores: torch.Tensor, hits: torch.Tensor, boxes: int, envelope: bool = True
) -> float:
    right = hits[scores.argsort(descending=True)].double().cumsum(0)
    precision = right / torch.arange(1, len(hits) + 1)
    if envelope:
        precision = precision.flip(0).cummax(0).values.flip(0)
    places = torch.searchsorted(right / boxes, torch.linspace(0, 1, 101, dtype=torch.float64))
    return float(torch.cat([precision, torch.zeros(1)])[places].mean())


@exercise("Average precision from a list of scores")
def check_average_precision(answer: Any) -> Hints:
    """Check ``function(scores, hits, boxes)`` to the average precision at 101 recalls."""
    scores = torch.tensor([0.3, 0.9, 0.8, 0.5, 0.7, 0.2])
    hits = torch.tensor([True, True, False, True, False, False])
    found = answer(scores, hits, 7)
    unsorted = torch.arange(6, 0, -1) / 10
    mistakes = {
        "sort the detections by their score first, highest first": _average_precision(
            unsorted, hits, 7
        ),
        "divide by the number of labeled boxes: one that no detection hits counts, too": (
            _average_precision(scores, hits, 3)
        ),
        "at each recall take the highest precision at that recall or a higher one": (
            _average_precision(scores, hits, 7, envelope=False)
        ),
    }
    yield expect_no_mistake(found, mistakes)
    yield expect_close("the average precision", found, _average_precision(scores, hits, 7), 1e-6)
    yield expect_close(
        "the average precision of detections that all hit", answer(scores, hits | True, 6), 1.0
    )
