"""Checks of a match that its search does not use: do they tell a wrong one?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.registration.pairs import KnownPair, Picture, smaller
from ldf_utils.registration.align import align, prepare
from ldf_utils.registration.geometry import Array, median_distance, resize_matrix
from ldf_utils.registration.homography import LEVELS, find_homography, fit_volume
from ldf_utils.registration.opencv import opencv
from ldf_utils.registration.similarity import Source, measure

_SIDE, _BINS = 480, 32


def gradients(picture: Picture) -> Picture:
    """Return the root of the gradient's magnitude, smoothed."""
    cv2 = opencv()
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
    slopes = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.sqrt(np.hypot(*slopes))


def _laid(pair: KnownPair, matrix: Array, of_gradients: bool) -> tuple[Picture, Picture]:
    """Return levels of visible and of infrared where both are seen."""
    cv2 = opencv()
    visible, infrared = (smaller(p, _SIDE) for p in (pair.visible, pair.infrared))
    to_visible = resize_matrix(pair.visible.shape, visible.shape)
    to_infrared = resize_matrix(pair.infrared.shape, infrared.shape)
    onto, size = to_infrared @ matrix @ np.linalg.inv(to_visible), visible.shape[::-1]
    seen = np.ones(infrared.shape, np.uint8)
    if of_gradients:
        visible, infrared = gradients(visible), gradients(infrared)
    inverse = cv2.WARP_INVERSE_MAP
    infrared = cv2.warpPerspective(infrared, onto, size, flags=cv2.INTER_LINEAR | inverse)
    inside = cv2.warpPerspective(seen, onto, size, flags=cv2.INTER_NEAREST | inverse) > 0
    return visible[inside], infrared[inside]


def gradient_correlation(pair: KnownPair, matrix: Array) -> float:
    """Compute the correlation of gradient magnitude, as ECC maximizes."""
    return float(np.corrcoef(*_laid(pair, matrix, True))[0, 1])


def mutual_information(pair: KnownPair, matrix: Array) -> float:
    """Compute the normalized mutual information of levels, 1 to 2 (Studholme et al. 1999)."""
    counts = np.histogram2d(*_laid(pair, matrix, False), bins=_BINS, range=[[0, 1], [0, 1]])[0]
    shares = counts / counts.sum()

    def entropy(share: Array) -> float:
        return float(-(share[share > 0] * np.log(share[share > 0])).sum())

    return (entropy(shares.sum(0)) + entropy(shares.sum(1))) / entropy(shares.ravel())


def other_way(pair: KnownPair) -> Array:
    """Search from infrared to visible, and return the inverse of what is found."""
    source = prepare(pair.infrared, pair.visible)
    swapped = Source(source.visible, source.infrared, source.visible_mask, source.infrared_mask)
    begin = resize_matrix(pair.infrared.shape, pair.visible.shape)
    inverse = np.linalg.inv(find_homography([swapped], begin)[0])
    return inverse / inverse[2, 2]


def held_out_gain(source: Source, begin: Array, matrix: Array) -> float:
    """Fit on half of the windows, and return the gain in similarity on the others, the lesser."""
    level = LEVELS[-1]
    after, before = measure(source, matrix, level), measure(source, begin, replace(level, reach=0))
    column, row = (np.unique(axis, return_inverse=True)[1] // 3 for axis in after.points.T)
    gains = []
    for half in ((column + row) % 2 == 0, (column + row) % 2 == 1):
        fit = fit_volume(after, np.zeros(8), weights=after.weights * half + 1e-9)
        shifts = fit.frame.displacement(fit.parameters, after.points)[0]
        gain = after.at(shifts)[0] - before.values[:, 0, 0]
        gains.append(float(np.average(gain[~half], weights=after.weights[~half])))
    return min(gains)


def check(pair: KnownPair) -> dict[str, float | str | bool]:
    """Match a pair and measure everything that may speak against the match.

    Returns:
        ``before`` and ``after``: errors; ``offset``, ``confidence`` and ``accepted`` of `align`;
        ``both_ways``: median distance of the searches in both directions, visible pixels;
        ``held_out``: as in `held_out_gain`; ``mutual_information`` and ``gradient_correlation``:
        gains over the pictures as they were.
    """
    source = prepare(pair.infrared, pair.visible)
    begin = resize_matrix(pair.visible.shape, pair.infrared.shape)
    found, matrix = align(pair.infrared, pair.visible), find_homography([source], begin)[0]
    independent = {
        "mutual_information": mutual_information,
        "gradient_correlation": gradient_correlation,
    }
    return {
        "pair": pair.name,
        "before": round(pair.before, 3),
        "after": round(min(pair.error(matrix), 999.0), 3),
        "offset": round(found.offset, 3),
        "confidence": round(found.confidence, 3),
        "accepted": found.accepted,
        "both_ways": round(median_distance(other_way(pair), matrix, pair.visible.shape), 3),
        "held_out": round(held_out_gain(source, begin, matrix), 4),
        **{
            name: round(value(pair, matrix) - value(pair, begin), 4)
            for name, value in independent.items()
        },
    }
