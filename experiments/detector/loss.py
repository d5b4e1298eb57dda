"""The loss of the embedded detector: which cell answers for which box, and how well it does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss

from experiments.detector.crops import Crop
from ldf_utils.detection.network import STRIDES, centers

SIZES = (0.0, 40.0, 80.0, 160.0, float("inf"))
"""Bounds in pixels: of the longer side of the boxes that each of the four grids answers for."""
NEAR = 1.5
"""Cells answer for a box if they lie this many strides or less from its center, on both axes."""


def assign(
    crop: Crop, places: torch.Tensor, strides: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the box that each cell answers for.

    Args:
        crop: with ``M`` boxes.
        places: ``(N, 2)`` centers of the cells.
        strides: ``(N,)``.

    Returns:
        ``(N,)`` places of boxes, -1 for none, and ``(N,)`` whether a cell takes part in the loss:
        cells within ignored boxes that answer for no other do not.
    """
    count = len(places)
    if not len(crop.boxes):
        return torch.full((count,), -1), torch.ones(count, dtype=torch.bool)
    x, y = places[:, :1], places[:, 1:]
    x0, y0, x1, y1 = crop.boxes.unbind(1)
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    reach = NEAR * strides[:, None]
    near = ((x - (x0 + x1) / 2).abs() < reach) & ((y - (y0 + y1) / 2).abs() < reach)
    longer = torch.maximum(x1 - x0, y1 - y0)
    bounds = torch.tensor(SIZES)
    level = torch.bucketize(longer, bounds[1:-1])
    right = strides[:, None] == torch.tensor(STRIDES)[level]
    answers = inside & near & right & ~crop.ignored
    area = ((x1 - x0) * (y1 - y0)).expand(count, -1)
    smallest, box = torch.where(answers, area, torch.inf).min(dim=1)
    box = torch.where(smallest.isfinite(), box, -1)
    return box, (box >= 0) | ~(inside & crop.ignored).any(dim=1)


def detection_loss(
    logits: torch.Tensor, boxes: torch.Tensor, crops: Sequence[Crop]
) -> dict[str, torch.Tensor]:
    """Compute the quality focal loss of the scores and the generalized IoU loss of the boxes.

    Args:
        logits: ``(B, N, classes)``.
        boxes: ``(B, N, 4)``.
        crops: ``B`` of them.

    Returns:
        ``score``, ``box`` and their sum ``total``, each per cell that answers for a box.

    Source: arXiv:2006.04388, equation 2 with exponent 2; arXiv:1902.09630.
    """
    places, strides = centers(*crops[0].gray.shape[-2:])
    targets, counted = torch.zeros_like(logits), torch.ones(logits.shape[:2], dtype=torch.bool)
    found, wanted = [], []
    for b, crop in enumerate(crops):
        box, counted[b] = assign(crop, places, strides)
        (cells,) = torch.nonzero(box >= 0, as_tuple=True)
        if len(cells):
            mine, true = boxes[b, cells], crop.boxes[box[cells]]
            quality = box_iou(mine.detach(), true).diagonal().clamp(0, 1)
            targets[b, cells, crop.classes[box[cells]]] = quality
            found.append(mine)
            wanted.append(true)
    answering = max(1, sum(map(len, found)))
    scores = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    score = ((targets - scores).square() * entropy * counted[..., None]).sum() / answering
    box_loss = logits.sum() * 0
    if found:
        overlap = generalized_box_iou_loss(torch.cat(found), torch.cat(wanted), reduction="sum")
        box_loss = overlap / answering
    return {"score": score, "box": box_loss, "total": 2 * score + box_loss}
