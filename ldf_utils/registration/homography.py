"""The homography that makes both pictures most alike: coarse to fine over similarity volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ldf_utils.registration.geometry import PARAMETERS, Array, Frame
from ldf_utils.registration.similarity import Level, Source, Volume, measure

LEVELS = (
    Level(120, reach=6, window=41, points=10, smooth=2.0, jump=True),
    Level(160, reach=4, window=41, points=12, smooth=1.0, jump=True),
    Level(240, reach=3, window=47, points=12, smooth=0.5),
    Level(320, reach=3, window=51, points=12),
    Level(480, reach=2, window=61, points=14),
)
"""The pyramid: 6 shifts at the first level are 32 pixels of a picture 640 pixels wide."""

_PENALTY = 0.0015
# Two cameras on one stick differ by a shift and an angle; in pixels of 640. Where a pair leaves
# scale and stretch open (a road at night), they stay small.
_USUAL = np.array([np.inf, np.inf, 20, 1, 1, 8, 4, 4])


@dataclass
class Fit:
    """What one level gave.

    Attributes:
        parameters: of the small homography, pixels of the level.
        volume: what it was fitted to.
        frame: in which the parameters are.
        before: sum of the parameters of the levels before, pixels of this level.
    """

    parameters: Array
    volume: Volume
    frame: Frame
    before: Array

    @property
    def matrix(self) -> Array:
        """The small homography in full visible pixels."""
        return (
            np.linalg.inv(self.volume.to_level)
            @ self.frame.matrix(self.parameters)
            @ self.volume.to_level
        )


def find_homography(
    sources: Sequence[Source], matrix: Array, levels: Sequence[Level] = LEVELS
) -> tuple[Array, Fit]:
    """Refine a matrix from visible to infrared pixels on one pair, or on all pairs of a rig.

    At each level the infrared pictures are laid on the visible ones by the matrix so far, and the
    weighted mean of the similarity volumes is maximized over a small homography, less the price of
    all that was found since ``matrix`` (`penalty`).

    Args:
        sources: pairs of equal sizes, of which all have the same matrix.
        matrix: where to begin.
        levels: coarse to fine.

    Returns:
        The matrix, and the fit of the last level.
    """
    total = np.zeros(PARAMETERS)  # parts of the longer side
    for level in levels:
        volume = _joined([measure(source, matrix, level) for source in sources])
        side = max(volume.size)
        fit = fit_volume(volume, total * side, jump=level.jump)
        total = total + fit.parameters / side
        matrix = matrix @ fit.matrix
        matrix = matrix / matrix[2, 2]
    return matrix, fit


def _joined(volumes: Sequence[Volume]) -> Volume:
    first = volumes[0]
    if len(volumes) == 1:
        return first
    parts = [(v.values, v.weights / v.weights.sum(), v.points) for v in volumes]
    values, weights, points = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Volume(values, weights, points, first.size, first.to_level)


def fit_volume(
    volume: Volume,
    before: Array,
    jump: bool = False,
    start: Array | None = None,
    weights: Array | None = None,
) -> Fit:
    """Maximize the mean similarity, less the `penalty` of these and the parameters before."""
    frame = Frame(*volume.size)
    weights = volume.weights if weights is None else weights
    weights = weights / weights.sum()
    parameters = np.zeros(PARAMETERS) if start is None else start
    if jump:
        mean = np.einsum("n,nyx->yx", weights, volume.values)
        y, x = np.unravel_index(mean.argmax(), mean.shape)
        parameters = np.array([x - len(mean) // 2, y - len(mean) // 2, *[0] * 6], float)

    def cost(parameters: Array) -> tuple[float, Array]:
        shifts, derivative = frame.displacement(parameters, volume.points)
        value, slope = volume.at(shifts)
        gradient = np.einsum("n,nd,ndk->k", weights, slope, derivative)
        price, rise, _ = penalty(parameters + before, max(volume.size))
        return price - float(weights @ value), rise - gradient

    found = optimize.minimize(
        cost, parameters, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    return Fit(found.x, volume, frame, before)


def penalty(parameters: Array, side: int) -> tuple[float, Array, Array]:
    """Return the price of parameters that two cameras rarely differ by.

    ``0.0015 * log(1 + (p / usual)^2)``, summed: what is small is kept small unless the pictures say
    otherwise, and what is large is not held back.

    Args:
        parameters: pixels of the level.
        side: longer side of the level, pixels.

    Returns:
        The price, its gradient, and its curvature as of a parabola through the gradient.
    """
    usual = _USUAL * side / 640
    ratio = parameters / usual
    curvature = 2 * _PENALTY / usual**2 / (1 + ratio**2)
    return float(_PENALTY * np.log1p(ratio**2).sum()), curvature * parameters, curvature
