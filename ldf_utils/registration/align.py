"""Detect whether a pair is aligned, and align it: a matrix with a confidence, accepted or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ldf_utils.registration import geometry
from ldf_utils.registration.deformation import find_deformation
from ldf_utils.registration.features import view_mask
from ldf_utils.registration.geometry import Array
from ldf_utils.registration.homography import LEVELS, Fit, find_homography
from ldf_utils.registration.search import find_starts
from ldf_utils.registration.similarity import Level, Source
from ldf_utils.registration.uncertainty import Trust, judge

TOLERANCE = 0.008
"""A pair that is off by less than this part of its longer side is called aligned.

Public sets of registered pairs are off by up to so much themselves (docs/registration.md)."""

_QUICK = LEVELS[:4]
_FAR = 0.05  # of the longer side: as far as the first search reaches
_CANDIDATE = (Level(160, reach=5, window=41, points=12, smooth=1.5, jump=True), LEVELS[2])


@dataclass(frozen=True)
class Alignment:
    """How the two cameras of a pair lie to each other.

    Attributes:
        matrix: 3 x 3, from visible pixels to infrared pixels.
        visible_size: height and width of the visible picture.
        infrared_size: height and width of the infrared picture.
        offset: by how much the pair is off before: the median distance, in visible pixels, between
            where the matrix puts a point and where resizing one picture onto the other puts it.
        confidence: 0 to 1, that the matrix is right to a few pixels; 0.5 and more is trusted.
        accepted: whether to use the matrix. If not, ``matrix`` is that of resizing.
        aligned: whether the pair needs no alignment.
        reason: one sentence on why.
        deformation: None, or ``(H, W, 2)`` float32: what to add, in visible pixels, x and y, to a
            visible pixel before the matrix is applied.
    """

    matrix: Array
    visible_size: tuple[int, int]
    infrared_size: tuple[int, int]
    offset: float
    confidence: float
    accepted: bool
    aligned: bool
    reason: str
    deformation: npt.NDArray[np.float32] | None = None


def detect(infrared: npt.ArrayLike, visible: npt.ArrayLike) -> Alignment:
    """Detect whether a pair is aligned, and by how many pixels it is off.

    Cheap enough to run before every fusion: a tenth of a second on one core. It finds what two
    cameras side by side differ by, up to 5 % of the picture; pictures of unequal views are for
    `align`.

    Args:
        infrared: ``(H, W)`` in [0, 1].
        visible: ``(H, W)`` luminance in [0, 1].

    Returns:
        The alignment as found on a coarser level: ``aligned``, ``offset`` in visible pixels and
        ``confidence``.

    Raises:
        ValueError: for pictures that are not ``(H, W)`` or smaller than 32 pixels.
        MissingExtra: without OpenCV.

    Example:
        >>> detect(infrared, visible).offset  # doctest: +SKIP
        12.4
    """
    source = prepare(infrared, visible)
    begin = _resizing(source)
    matrix, fit = find_homography([source], begin, _QUICK)
    return conclude(source, begin, matrix, judge([source], begin, matrix, fit, _QUICK[-1]))


def align(
    infrared: npt.ArrayLike,
    visible: npt.ArrayLike,
    deformation: bool = False,
    start: Array | None = None,
    tolerance: float = TOLERANCE,
) -> Alignment:
    """Find the homography from visible to infrared pixels, and whether to trust it.

    The pictures may differ in size and view. The search begins at ``start``, or where one picture
    is resized onto the other; if the views differ, or that leads nowhere or far, also at the best
    of many scales and shifts. A result that is not trusted is not accepted, and its matrix is that
    of resizing.

    Args:
        infrared: ``(H, W)`` in [0, 1].
        visible: ``(H', W')`` luminance in [0, 1].
        deformation: also look for a smooth displacement that the homography lacks (parallax). It
            is kept only if windows that it was not fitted to agree better.
        start: a matrix to begin with.
        tolerance: offsets below this part of the longer side are left alone.

    Raises:
        ValueError: as `detect`.
        MissingExtra: without OpenCV.

    Example:
        >>> align(infrared, visible).matrix  # doctest: +SKIP
    """
    source = prepare(infrared, visible)
    begin = _resizing(source)
    first = begin if start is None else start
    matrix, fit = find_homography([source], first)
    trust = judge([source], begin, matrix, fit, LEVELS[-1])
    far = geometry.median_distance(matrix, first, source.visible.shape)
    far /= geometry.pixel_scale(begin, source.visible.shape) * max(source.visible.shape)
    other_view = start is None and source.infrared.shape != source.visible.shape
    if not trust.sure or other_view or far > _FAR:
        again = _search(source)
        other, other_fit = find_homography([source], again, LEVELS[2:])
        other_trust = judge([source], begin, other, other_fit, LEVELS[-1])
        if other_trust.similarity > trust.similarity:
            matrix, fit, trust = other, other_fit, other_trust
    result = conclude(source, begin, matrix, trust, tolerance)
    if deformation and result.accepted:
        field = find_deformation(source, result.matrix)
        return Alignment(**{**vars(result), "deformation": field})
    return result


def align_rig(
    pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], tolerance: float = TOLERANCE
) -> Alignment:
    """Find the one homography of a fixed rig from several of its pairs.

    Each pair is aligned by itself; the transform that most of the trusted ones are nearest to is
    where the joint search begins, which maximizes the mean similarity of all pairs.

    Args:
        pairs: infrared and visible, as for `align`; each camera has one size.
        tolerance: as in `align`.

    Raises:
        ValueError: for no pair, or for pictures of several sizes, and as `align`.
        MissingExtra: without OpenCV.
    """
    sources = [prepare(infrared, visible) for infrared, visible in pairs]
    if not sources:
        raise ValueError("expected at least one pair to find the transform of a rig, got none")
    sizes = {(source.infrared.shape, source.visible.shape) for source in sources}
    if len(sizes) > 1:
        found = ", ".join(f"{i[1]} x {i[0]} with {v[1]} x {v[0]}" for i, v in sorted(sizes))
        raise ValueError(f"a fixed rig has one size for each camera, found {found}")
    begin = _resizing(sources[0])
    singles = [align(infrared, visible, tolerance=0.0) for infrared, visible in pairs]
    kept = [one for one in singles if one.accepted] or singles
    size = sources[0].visible.shape
    distances = np.array(
        [[geometry.median_distance(a.matrix, b.matrix, size) for b in kept] for a in kept]
    )
    middle = kept[int(np.median(distances, axis=1).argmin())].matrix
    matrix, fit = find_homography(sources, middle, LEVELS[2:])
    trust = judge(sources, begin, matrix, fit, LEVELS[-1])
    return conclude(sources[0], begin, matrix, trust, tolerance)


def prepare(infrared: npt.ArrayLike, visible: npt.ArrayLike) -> Source:
    """Check a pair and find where each camera sees something."""
    first, second = (np.ascontiguousarray(p, np.float32) for p in (infrared, visible))
    for picture, name in ((first, "infrared"), (second, "visible")):
        if picture.ndim != 2 or min(picture.shape) < 32:
            raise ValueError(
                f"the {name} picture to register must be (H, W) with at least 32 pixels a side, "
                f"got {picture.shape}"
            )
    return Source(first, second, view_mask(first), view_mask(second))


def _resizing(source: Source) -> Array:
    return geometry.resize_matrix(source.visible.shape, source.infrared.shape)


def _search(source: Source) -> Array:
    """Try many scales, and return the start whose small pictures agree best."""
    best, most = _resizing(source), -np.inf
    for start in find_starts(source):
        matrix, fit = find_homography([source], start, _CANDIDATE)
        trust = judge([source], start, matrix, fit, _CANDIDATE[-1])
        if trust.similarity > most:
            best, most = matrix, trust.similarity
    return best


def conclude(
    source: Source, begin: Array, matrix: Array, trust: Trust, tolerance: float = TOLERANCE
) -> Alignment:
    """Decide whether to use a matrix: trusted, and off by more than is uncertain."""
    size = source.visible.shape
    scale = geometry.pixel_scale(begin, size)
    offset = geometry.median_distance(matrix, begin, size) / scale
    least = max(tolerance * max(size), trust.least_offset)
    if not trust.sure:
        accepted, aligned = False, False
        reason = f"not trusted: {trust.reason}; register this pair by hand, or use --rig"
    elif offset < least and source.infrared.shape == size:
        accepted, aligned = False, True
        reason = f"aligned: off by {offset:.1f} pixels at most, left alone below {least:.1f}"
    elif trust.gain < trust.least_gain and source.infrared.shape == size:
        accepted, aligned = False, False
        reason = "not trusted: the pictures do not agree better than before"
    else:
        accepted, aligned = True, False
        reason = f"off by {offset:.1f} pixels before"
    return Alignment(
        matrix if accepted else begin,
        (int(size[0]), int(size[1])),
        (int(source.infrared.shape[0]), int(source.infrared.shape[1])),
        offset,
        trust.confidence,
        accepted,
        aligned,
        reason,
    )


__all__ = ["TOLERANCE", "Alignment", "Fit", "align", "align_rig", "detect"]
