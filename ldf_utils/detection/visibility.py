"""Visibility: how well labeled things stand out in a picture, without any detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ldf_utils.data.images import to_8bit
from ldf_utils.detection.boxes import Boxes

LEAST_PIXELS = 12
"""A box needs this many pixels inside and around it."""
CLEAR_AREA, CLEAR_CONTRAST = 0.8, 0.08
"""A thing is clear to see if it stands out and differs from its surroundings by more than this."""


def stands_out(gray: torch.Tensor, boxes: Boxes) -> npt.NDArray[np.float64]:
    """Measure how well the middle of each box can be told from the ring around it.

    It is the area under the ROC curve of the gray levels, folded: 0.5 means that a threshold cannot
    tell the two apart, 1 that it always can, whether the thing is brighter or darker. The middle is
    an ellipse of 70 % of the width and 80 % of the height; the ring is wider than the box by 35 %
    of half its longer side.

    Args:
        gray: ``(1, H, W)`` in [0, 1].
        boxes: of the picture.

    Returns:
        ``(len(boxes),)`` in [0.5, 1], NaN for boxes of few pixels.

    Raises:
        ValueError: for another shape.

    Example:
        >>> picture = torch.zeros(1, 40, 40)
        >>> picture[0, 10:30, 15:25] = 1
        >>> stands_out(picture, Boxes.of([((15, 10, 25, 30), "person")]))
        array([1.])
    """
    return np.array([_area(*parts) if parts else np.nan for parts in _histograms(gray, boxes)])


def contrast(gray: torch.Tensor, boxes: Boxes) -> npt.NDArray[np.float64]:
    """Measure how far the gray levels in the middle of each box are from those in the ring around.

    It is the mean distance that gray levels have to be moved to turn one distribution into the
    other (Wasserstein distance), so that dark and bright parts of one thing do not cancel, as they
    do in a difference of means. Middle and ring are those of `stands_out`.

    Args:
        gray: ``(1, H, W)`` in [0, 1].
        boxes: of the picture.

    Returns:
        ``(len(boxes),)`` in [0, 1], NaN for boxes of few pixels.

    Raises:
        ValueError: for another shape.

    Example:
        >>> picture = torch.zeros(1, 40, 40)
        >>> picture[0, 10:30, 15:25] = 0.2
        >>> contrast(picture, Boxes.of([((15, 10, 25, 30), "person")]))
        array([0.2])
    """
    return np.array([_distance(*parts) if parts else np.nan for parts in _histograms(gray, boxes)])


def is_clear(gray: torch.Tensor, boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Say which boxes are clear to see: `stands_out` above 0.8 and `contrast` above 0.08.

    The first alone does not do: in fog, a thing that is two gray levels darker than everything
    around it stands out perfectly, and nobody sees it.

    Args:
        gray: ``(1, H, W)`` in [0, 1].
        boxes: of the picture.

    Returns:
        ``(len(boxes),)``.

    Raises:
        ValueError: for another shape.

    Example:
        >>> picture = torch.zeros(1, 40, 40)
        >>> picture[0, 10:30, 15:25] = 0.02
        >>> is_clear(picture, Boxes.of([((15, 10, 25, 30), "person")]))
        array([False])
    """
    return np.array(
        [
            parts is not None and _area(*parts) > CLEAR_AREA and _distance(*parts) > CLEAR_CONTRAST
            for parts in _histograms(gray, boxes)
        ],
        bool,
    )


Histogram = npt.NDArray[np.float64]


def _histograms(gray: torch.Tensor, boxes: Boxes) -> list[tuple[Histogram, Histogram] | None]:
    """Return shares of the 256 gray levels in the middle of each box and in the ring around it."""
    if gray.ndim != 3 or gray.shape[0] != 1:
        raise ValueError(f"a picture must have shape (1, H, W), got {tuple(gray.shape)}")
    levels = to_8bit(gray)[0].numpy().astype(np.int64)
    return [_of_box(levels, corners) for corners in boxes.corners]


def _of_box(
    levels: npt.NDArray[np.int64], corners: npt.NDArray[np.float64]
) -> tuple[Histogram, Histogram] | None:
    """Return the shares of one box; None if it has few pixels."""
    height, width = levels.shape
    x0, y0, x1, y1 = corners
    radii = (x1 - x0) / 2, (y1 - y0) / 2
    margin = max(3.0, 0.35 * max(radii))
    rows = np.arange(max(0, int(y0 - margin)), min(height, int(np.ceil(y1 + margin))))
    columns = np.arange(max(0, int(x0 - margin)), min(width, int(np.ceil(x1 + margin))))
    y, x = np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
    across, along = (x - (x0 + x1) / 2) / (0.7 * radii[0]), (y - (y0 + y1) / 2) / (0.8 * radii[1])
    inside = across**2 + along**2 < 1
    ring = (x < x0) | (x > x1) | (y < y0) | (y > y1)
    if min(inside.sum(), ring.sum()) < LEAST_PIXELS:
        return None
    part = levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mine, theirs = (np.bincount(part[m], minlength=256) / m.sum() for m in (inside, ring))
    return mine, theirs


def _area(mine: Histogram, theirs: Histogram) -> float:
    """Compute the folded area under the curve."""
    below = np.concatenate([[0.0], np.cumsum(theirs)[:-1]])
    area = float((mine * (below + theirs / 2)).sum())
    return max(area, 1 - area)


def _distance(mine: Histogram, theirs: Histogram) -> float:
    """Compute the Wasserstein distance, in [0, 1]."""
    return float(np.abs(np.cumsum(mine - theirs)).sum() / 255)
