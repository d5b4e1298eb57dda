"""How far to trust a homography: agreement of the pictures, its scatter, and the gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ldf_utils.registration.geometry import PARAMETERS, Array
from ldf_utils.registration.homography import Fit, fit_volume, penalty
from ldf_utils.registration.similarity import Level, Source, Volume, measure

LEAST_SIMILARITY = 0.18
"""Mean normalized correlation below which two pictures do not show the same edges."""

LEAST_GAIN = 3.0
"""Standard errors by which the similarity must be above that before."""

_FACTOR = 5.0  # an offset of fewer standard errors than this may be none


@dataclass(frozen=True)
class Trust:
    """What is known about a result.

    Attributes:
        similarity: weighted mean of the normalized correlation of edges, -1 to 1.
        gain: its increase over the start, in standard errors over the windows.
        scatter: standard error of the homography, median over the picture, in visible pixels.
        confidence: 0 to 1.
        limit: the largest scatter that is trusted, visible pixels.
    """

    similarity: float
    gain: float
    scatter: float
    confidence: float
    limit: float
    least_gain: float = LEAST_GAIN

    @property
    def sure(self) -> bool:
        """Whether the result is trusted."""
        return self.confidence >= 0.5

    @property
    def least_offset(self) -> float:
        """Offsets below this many visible pixels cannot be told from none."""
        return _FACTOR * self.scatter

    @property
    def reason(self) -> str:
        """What speaks against the result."""
        if self.similarity < LEAST_SIMILARITY:
            return f"few edges in common (similarity {self.similarity:.2f})"
        return f"uncertain by {self.scatter:.1f} pixels"


def judge(sources: Sequence[Source], begin: Array, matrix: Array, fit: Fit, level: Level) -> Trust:
    """Judge a matrix by measuring the pictures at it and at the start.

    The standard error is that of an M-estimator (the sandwich of curvature and gradients of the
    windows), added to half the difference of two fits on disjoint halves of the windows.

    Args:
        sources: the pairs.
        begin: the matrix before.
        matrix: the result.
        fit: of the last level.
        level: that level.
    """
    still = replace(level, reach=0, smooth=0.0)
    after = _stacked([measure(source, matrix, still) for source in sources])
    before = _stacked([measure(source, begin, still) for source in sources])
    weights = after[1] / after[1].sum()
    similarity = float(weights @ after[0])
    height, width = fit.volume.size
    overlap = max(1.0, len(fit.volume.points) / len(sources) * level.window**2 / height / width)
    difference = after[0] - before[0]
    mean = float(weights @ difference)
    error = float(np.sqrt(overlap * ((weights * (difference - mean)) ** 2).sum()))
    to_full = max(sources[0].visible.shape) / max(height, width)
    scatter = to_full * float(np.hypot(_sandwich(fit, overlap), _halves(fit)))
    limit = 0.006 * max(sources[0].visible.shape)
    confidence = _rise((similarity - LEAST_SIMILARITY) / 0.02) * _rise(4 * (1 - scatter / limit))
    return Trust(similarity, mean / (error + 1e-9), scatter, float(np.sqrt(confidence)), limit)


def _rise(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -50, 50))))


def _stacked(volumes: Sequence[Volume]) -> tuple[Array, Array]:
    """Values and weights of all windows; each pair counts alike."""
    values = np.concatenate([volume.values[:, 0, 0] for volume in volumes])
    return values, np.concatenate([v.weights / v.weights.sum() for v in volumes])


def _sandwich(fit: Fit, overlap: float) -> float:
    """Return the standard error of the displacement, pixels of the level, median over points."""
    volume, frame = fit.volume, fit.frame
    weights = volume.weights / volume.weights.sum()

    def gradients(parameters: Array) -> Array:
        shifts, derivative = frame.displacement(parameters, volume.points)
        return np.einsum("n,nd,ndk->nk", weights, volume.at(shifts)[1], derivative)

    curvature = np.empty((PARAMETERS, PARAMETERS))
    for k, step in enumerate(0.25 * np.eye(PARAMETERS)):
        ends = [gradients(fit.parameters + sign * step).sum(0) for sign in (-1, 1)]
        curvature[k] = (ends[0] - ends[1]) / 0.5
    stiffness = penalty(fit.parameters + fit.before, max(volume.size))[2]
    curvature = (curvature + curvature.T) / 2 + np.diag(stiffness)
    least = np.linalg.eigvalsh(curvature)[0]
    inverse = np.linalg.inv(curvature + np.eye(PARAMETERS) * max(0.0, 1e-5 - least))
    single = gradients(fit.parameters)
    covariance = inverse @ (single.T @ single * overlap) @ inverse
    derivative = frame.displacement(fit.parameters, volume.points)[1]
    variance = np.einsum("ndk,kl,ndl->n", derivative, covariance, derivative)
    return float(np.median(np.sqrt(np.maximum(variance, 0))))


def _halves(fit: Fit) -> float:
    """Return half the median distance of fits on two halves, a checkerboard of window groups."""
    volume, frame = fit.volume, fit.frame
    column, row = (np.unique(axis, return_inverse=True)[1] // 3 for axis in volume.points.T)
    moved = []
    for half in (0, 1):
        weights = volume.weights * ((column + row) % 2 == half) + 1e-9
        half_fit = fit_volume(volume, fit.before, start=fit.parameters, weights=weights)
        moved.append(frame.displacement(half_fit.parameters, volume.points)[0])
    return float(np.median(np.hypot(*(moved[0] - moved[1]).T))) / 2
