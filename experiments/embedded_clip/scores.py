"""Scores that the evaluation of the embedded CLIP is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ldf_utils.evaluation.ranking import bootstrap_mean

Report = dict[str, Any]


def area_under_curve(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Compute the probability that a positive scores above a negative; a tie counts half.

    Args:
        positive: ``(N,)`` scores.
        negative: ``(M,)`` scores.

    Returns:
        The area under the ROC curve, in [0, 1].
    """
    higher = (positive[:, None] > negative[None]).float()
    return float((higher + 0.5 * (positive[:, None] == negative[None])).mean())


def interval(values: torch.Tensor) -> dict[str, float]:
    """Compute the mean over pairs with a 95 % interval, as `bootstrap_mean`.

    Args:
        values: ``(N,)`` or ``(N, K)``, one row a pair; the K values of a pair stay together.

    Returns:
        ``mean``, ``low``, ``high``, rounded to four digits.
    """
    found = bootstrap_mean(values.double().view(len(values), -1).mean(1).tolist())
    return {name: round(getattr(found, name), 4) for name in ("mean", "low", "high")}


def modality(scores: torch.Tensor) -> Report:
    """Measure infrared or visible: scores ``(N, 2)`` of infrared and visible images of N pairs."""
    correct = interval(torch.stack([scores[:, 0] > 0, scores[:, 1] < 0], 1))
    higher = interval(scores[:, 0] > scores[:, 1])
    return {"balanced_accuracy": correct["mean"], **correct, "infrared_scores_higher": higher}


def by_mean(losses: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Average the loss of each method over the pairs that have it, best first."""
    names = {name for row in losses for name in row}
    table = {n: interval(torch.tensor([row[n] for row in losses if n in row])) for n in names}
    return dict(sorted(table.items(), key=lambda item: item[1]["mean"]))
