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

_PENALTY = 0.003
# Two cameras on one stick differ by a shift first, then by angle and lens: in pixels of 640.
_USUAL = np.array([np.inf, np.inf, 12, 12, 8, 8, 5, 5])


@dataclass
class Fit:
    """What one level gave.

    Attributes:
        parameters: of the small homography, pixels of the level.
        volume: what it was fitted to.
        frame: in which the parameters are.
    """

    parameters: Array
    volume: Volume
    frame: Frame

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
    weighted mean of the similarity volumes is maximized over a small homography.

    Args:
        sources: pairs of equal sizes, of which all have the same matrix.
        matrix: where to begin.
        levels: coarse to fine.

    Returns:
        The matrix, and the fit of the last level.
    """
    for level in levels:
        volume = _joined([measure(source, matrix, level) for source in sources])
        fit = fit_volume(volume, jump=level.jump)
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
    jump: bool = False,
    start: Array | None = None,
    weights: Array | None = None,
) -> Fit:
    """Maximize the mean similarity, less a penalty for what two cameras rarely differ by."""
    frame = Frame(*volume.size)
    weights = volume.weights if weights is None else weights
    weights = weights / weights.sum()
    parameters = np.zeros(PARAMETERS) if start is None else start
    if jump:
        mean = np.einsum("n,nyx->yx", weights, volume.values)
        y, x = np.unravel_index(mean.argmax(), mean.shape)
        parameters = np.array([x - len(mean) // 2, y - len(mean) // 2, *[0] * 6], float)
    stiff = stiffness(volume)

    def cost(parameters: Array) -> tuple[float, Array]:
        shifts, derivative = frame.displacement(parameters, volume.points)
        value, slope = volume.at(shifts)
        gradient = np.einsum("n,nd,ndk->k", weights, slope, derivative)
        return (
            float(stiff @ parameters**2 - weights @ value),
            2 * stiff * parameters - gradient,
        )

    found = optimize.minimize(
        cost, parameters, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    return Fit(found.x, volume, frame)


def stiffness(volume: Volume) -> Array:
    """Weights of the squared parameters in the penalty, per squared pixel of the level."""
    return _PENALTY * (640 / (max(volume.size) * _USUAL)) ** 2
