"""How well people and vehicles can be told from their surroundings, by their boxes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

PEOPLE = ("person",)
VEHICLES = ("vehicle", "car", "van", "truck", "bus", "bicycle", "bike", "motorcycle")


@dataclass(frozen=True)
class Box:
    """Hold where an object is, in pixels: columns ``xmin:xmax`` and rows ``ymin:ymax``."""

    label: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


def separation(picture: torch.Tensor, box: Box) -> tuple[float, float] | None:
    """Measure how an object differs from a ring around it.

    The object is the middle ellipse of its box (0.7 of the width, 0.8 of the height), the ring what
    lies outside of the box by up to 0.35 times its longer half side, at least 3 pixels.

    Args:
        picture: ``(H, W)`` in [0, 1]; it is rounded to 256 levels.
        box: in pixels; it may reach out of the picture.

    Returns:
        The area under the curve of gray levels inside against around, folded to [0.5, 1] (0.5:
        cannot be told), and the difference of the two means in levels, at least 0. None if
        ellipse or ring has fewer than 12 pixels.
    """
    height, width = picture.shape
    middle = (box.xmin + box.xmax) / 2, (box.ymin + box.ymax) / 2
    half = (box.xmax - box.xmin) / 2, (box.ymax - box.ymin) / 2
    margin = max(3.0, 0.35 * max(half))
    left, top = max(0, int(box.xmin - margin)), max(0, int(box.ymin - margin))
    right, bottom = min(width, int(box.xmax + margin)), min(height, int(box.ymax + margin))
    if right <= left or bottom <= top or min(half) <= 0:
        return None
    x, y = torch.arange(left, right), torch.arange(top, bottom)[:, None]
    ellipse = ((x - middle[0]) / (0.7 * half[0])) ** 2 + ((y - middle[1]) / (0.8 * half[1])) ** 2
    inside = ellipse < 1
    ring = (x < box.xmin) | (x > box.xmax) | (y < box.ymin) | (y > box.ymax)
    if inside.sum() < 12 or ring.sum() < 12:
        return None
    levels = (picture[top:bottom, left:right] * 255).round().clamp(0, 255).long()
    one, other = (
        torch.bincount(levels[mask], minlength=256).double() / mask.sum() for mask in (inside, ring)
    )
    less = other.cumsum(0) - other
    area = (one * (less + other / 2)).sum().item()
    scale = torch.arange(256, dtype=torch.float64)
    return max(area, 1 - area), abs(((one - other) * scale).sum().item())


def mean_separation(
    picture: torch.Tensor, boxes: Iterable[Box], labels: Iterable[str]
) -> tuple[float, float]:
    """Average `separation` over the boxes with these labels.

    Args:
        picture: ``(1, H, W)`` in [0, 1].
        boxes: of the picture.
        labels: in lower case.

    Returns:
        Mean area and mean difference in levels; NaN where there is no such object.
    """
    wanted = set(labels)
    found = [separation(picture[0], box) for box in boxes if box.label.lower() in wanted]
    values = [value for value in found if value is not None]
    if not values:
        return math.nan, math.nan
    areas, levels = zip(*values, strict=True)
    return math.fsum(areas) / len(values), math.fsum(levels) / len(values)
