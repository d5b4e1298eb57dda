"""How alike both pictures are around each point, for every small shift: the similarity volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ldf_utils.registration.features import Picture, edge_features
from ldf_utils.registration.geometry import Array, resize_matrix
from ldf_utils.registration.opencv import opencv

_OUTSIDE = 0.05  # what a pixel beyond the shifts that were tried costs
_CUBIC = -0.5  # Catmull-Rom


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        side: longer side of the pictures at this level, pixels.
        reach: shifts of -reach..reach pixels are tried.
        window: side of the window around each point, pixels.
        points: points along the longer side.
        smooth: standard deviation by which the volume is smoothed, shifts.
        jump: whether the search begins at the best common shift.
    """

    side: int
    reach: int
    window: int
    points: int
    smooth: float = 0.0
    jump: bool = False


@dataclass
class Source:
    """A pair as the search needs it: float32 in [0, 1] and where each camera sees something."""

    infrared: Picture
    visible: Picture
    infrared_mask: npt.NDArray[np.uint8]
    visible_mask: npt.NDArray[np.uint8]


@dataclass
class Volume:
    """Normalized correlation of edge features in windows, for shifts of the infrared picture.

    Attributes:
        values: ``(N, 2 reach + 1, 2 reach + 1)`` in [-1, 1], point, shift in y, shift in x.
        weights: ``(N,)``, low where one of both has few edges or is out of view.
        points: ``(N, 2)``, pixels of the level.
        size: height and width of the level.
        to_level: matrix from full visible pixels to those of the level.
    """

    values: Picture
    weights: Array
    points: Array
    size: tuple[int, int]
    to_level: Array

    def at(self, shifts: Array) -> tuple[Array, Array]:
        """Interpolate at ``(N, 2)`` shifts; return values ``(N,)`` and derivatives ``(N, 2)``."""
        count, side, _ = self.values.shape
        place = np.clip(shifts + side // 2, 1, side - 2 - 1e-3)
        base = np.floor(place).astype(int)
        wx, dx = _cubic(place[:, 0] - base[:, 0])
        wy, dy = _cubic(place[:, 1] - base[:, 1])
        near = np.arange(-1, 3)
        rows, columns = base[:, 1, None] + near, base[:, 0, None] + near
        around = self.values[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None]]
        value = np.einsum("nij,ni,nj->n", around, wy, wx)
        slope = [np.einsum("nij,ni,nj->n", around, a, b) for a, b in ((wy, dx), (dy, wx))]
        beyond = shifts + side // 2 - place
        slopes = np.where(beyond != 0, -_OUTSIDE * np.sign(beyond), np.stack(slope, 1))
        return value - _OUTSIDE * np.abs(beyond).sum(1), slopes


def _cubic(fraction: Array) -> tuple[Array, Array]:
    """Weights of four neighbors for cubic interpolation, and their derivatives."""
    offset = fraction[:, None] - np.array([-1.0, 0.0, 1.0, 2.0])
    x, a = np.abs(offset), _CUBIC
    inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
    outer = a * (x**3 - 5 * x**2 + 8 * x - 4)
    weight = np.where(x <= 1, inner, np.where(x < 2, outer, 0))
    slope = np.where(
        x <= 1,
        3 * (a + 2) * x**2 - 2 * (a + 3) * x,
        np.where(x < 2, a * (3 * x**2 - 10 * x + 8), 0),
    )
    return weight, slope * np.sign(offset)


def measure(source: Source, matrix: Array, level: Level) -> Volume:
    """Lay the infrared picture on the visible one and measure the volume around that.

    Args:
        source: the pair.
        matrix: from visible to infrared pixels, full size.
        level: where in the pyramid.
    """
    from scipy import ndimage

    cv2 = opencv()
    full = source.visible.shape
    ratio = min(1.0, level.side / max(full))
    height, width = (max(32, round(side * ratio)) for side in full)
    to_level = resize_matrix(full, (height, width))
    flags = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    visible = cv2.resize(source.visible, (width, height), interpolation=flags)
    onto = matrix @ np.linalg.inv(to_level)
    infrared, seen = lay(source, onto, (height, width))
    mask = cv2.resize(source.visible_mask, (width, height), interpolation=cv2.INTER_NEAREST)
    first = edge_features(visible, mask, level.window)
    second = edge_features(infrared, seen, level.window)
    values, weights, points = _correlate(first, second, level)
    if level.smooth:
        values = ndimage.gaussian_filter(values, (0, level.smooth, level.smooth))
    window = (level.window | 1, level.window | 1)
    in_view = cv2.boxFilter(seen.astype(np.float32), -1, window, borderType=cv2.BORDER_CONSTANT)
    weights = weights * in_view[tuple(points.astype(int).T[::-1])] + 1e-6
    return Volume(values, weights, points, (height, width), to_level)


def lay(source: Source, onto: Array, size: tuple[int, int]) -> tuple[Picture, npt.NDArray]:
    """Warp the infrared picture and its mask, smoothed first where it shrinks."""
    cv2 = opencv()
    shrink = np.sqrt(abs(np.linalg.det(onto[:2, :2])))
    picture = source.infrared
    if shrink > 1.3:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * float(shrink))
    inverse, shape = cv2.WARP_INVERSE_MAP, size[::-1]
    warped = cv2.warpPerspective(
        picture, onto, shape, flags=cv2.INTER_LINEAR | inverse, borderMode=cv2.BORDER_REPLICATE
    )
    seen = cv2.warpPerspective(source.infrared_mask, onto, shape, flags=cv2.INTER_NEAREST | inverse)
    return warped, seen


def _correlate(first: Picture, second: Picture, level: Level) -> tuple[Picture, Array, Array]:
    """Correlate windows of the first features with shifted windows of the second."""
    cv2 = opencv()
    _, height, width = first.shape
    margin, reach = level.window // 3, level.reach
    rows = max(4, round(level.points * height / width)) if width >= height else level.points
    columns = level.points if width >= height else max(4, round(level.points * width / height))
    xs = np.linspace(margin, width - 1 - margin, columns)
    ys = np.linspace(margin, height - 1 - margin, rows)
    points = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2).round()
    stride = 2 if min(height, width) >= 100 else 1  # features are smooth: every second is enough
    at = tuple((points / stride).astype(int).T[::-1])
    side = level.window // stride | 1

    def mean(values: Picture) -> Picture:
        filtered = cv2.boxFilter(
            np.ascontiguousarray(values), -1, (side, side), borderType=cv2.BORDER_CONSTANT
        )
        return np.maximum(filtered[at], 0) if values.min() >= 0 else filtered[at]

    sparse = np.ascontiguousarray(first[:, ::stride, ::stride])
    padded = np.pad(second, ((0, 0), (reach, reach), (reach, reach)))
    energy, energies = mean((sparse**2).sum(0)), (padded**2).sum(0)
    steps, product = 2 * reach + 1, np.empty_like(sparse)
    values = np.zeros((len(points), steps, steps), np.float32)
    for y in range(steps):
        for x in range(steps):
            part = (slice(y, y + height, stride), slice(x, x + width, stride))
            np.multiply(sparse, padded[:, part[0], part[1]], out=product)
            scale = np.sqrt(energy * mean(energies[part]))
            values[:, y, x] = mean(product.sum(0)) / (scale + 1e-6)
    second_energy = mean(energies[reach : reach + height : stride, reach : reach + width : stride])
    weights = np.ones(len(points))
    for power in (energy, second_energy):
        weights *= power / (power + np.median(power) + 1e-9)
    return values, weights, points
